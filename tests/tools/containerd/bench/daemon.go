package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// daemon is the process of a shim, held by a pidfd: its pid cannot become somebody else's unseen.
type daemon struct {
	pid   int
	pidfd int
}

// findDaemons finds the daemons of our containers, by id.
func (b *bench) findDaemons() (map[string]*daemon, error) {
	found := map[string]*daemon{}
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		id, ok := b.shimOf(path)
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil {
			continue
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		// Still the same, now that it is held?
		if again, ok := b.shimOf(path); !ok || again != id {
			unix.Close(pidfd)
			continue
		}
		if found[id] != nil {
			return nil, fmt.Errorf("%s has two daemons, %d and %d", id, found[id].pid, pid)
		}
		found[id] = &daemon{pid, pidfd}
	}
	return found, nil
}

// shimOf gives the id that a process with this command line serves, if it is a daemon of this run, and not who starts one
// or stands by for it.
func (b *bench) shimOf(path string) (string, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", false
	}
	words := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	value := func(flag string) string {
		i := slices.Index(words, flag)
		if i < 0 || i+1 >= len(words) {
			return ""
		}
		return words[i+1]
	}
	last := words[len(words)-1]
	if !strings.HasPrefix(filepath.Base(words[0]), "containerd-shim-") || value("-namespace") != b.namespace() ||
		value("-address") != b.address() || slices.Contains([]string{"start", "delete", "gc"}, last) {
		return "", false
	}
	id := value("-id")
	return id, id != ""
}

// wait waits for its death.
func (d *daemon) wait(limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for {
		left := max(0, time.Until(deadline))
		fds := []unix.PollFd{{Fd: int32(d.pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int(left.Milliseconds()))
		if n > 0 {
			return true
		}
		if left == 0 || (err != nil && err != unix.EINTR) {
			return false
		}
	}
}

func (d *daemon) signal(signal unix.Signal) error {
	return unix.PidfdSendSignal(d.pidfd, signal, nil, 0)
}

func (d *daemon) close() { unix.Close(d.pidfd) }

// memory is what its smaps_rollup says, in kB.
func (d *daemon) memory() (map[string]float64, error) {
	sizes, err := memoryOf(d.pid)
	if err == nil && d.wait(0) {
		err = fmt.Errorf("the daemon %d has ended", d.pid)
	}
	return sizes, err
}

func memoryOf(pid int) (map[string]float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, err
	}
	sizes := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[2] == "kB" {
			if size, err := strconv.ParseFloat(fields[1], 64); err == nil {
				sizes[strings.TrimSuffix(fields[0], ":")] = size
			}
		}
	}
	sizes["Private"] = sizes["Private_Clean"] + sizes["Private_Dirty"]
	return sizes, nil
}
