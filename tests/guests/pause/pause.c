/*
 * What holds a pod that the handler runc runs: it waits, and reaps what a shared pid namespace leaves it. Pods of the
 * handler urunc have no such program; tests compare the two.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal)
{
	(void)signal;
	_exit(0);
}

static void reap(int signal)
{
	(void)signal;
	while (waitpid(-1, 0, WNOHANG) > 0)
		;
}

int main(void)
{
	struct sigaction ends = {.sa_handler = leave}, child = {.sa_handler = reap, .sa_flags = SA_NOCLDSTOP};
	sigaction(SIGINT, &ends, 0);
	sigaction(SIGTERM, &ends, 0);
	sigaction(SIGCHLD, &child, 0);
	for (;;)
		pause();
}
