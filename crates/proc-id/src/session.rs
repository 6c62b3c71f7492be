//! Who is in the session of a process that leads one.

use std::fs;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{Error, Process, is_no_process, stat_field};

/// The session's place in `/proc/PID/stat`, counted from behind the command's name.
const SESSION: usize = 3;

impl Process {
    /// The other processes of the session that it leads, zombies too. None if it leads none, or if it is dead: then
    /// the session's number need not be its own any more.
    pub fn session(&self) -> Result<Vec<Process>, Error> {
        let path = "/proc";
        let entries = fs::read_dir(path).map_err(|source| Error::Proc { path: path.to_owned(), source })?;
        let is_in_it = |pid: i32| Ok::<_, Error>(session_of(pid)? == Some(self.pid()));
        if !is_in_it(self.pid())? {
            return Ok(vec![]);
        }
        let mut found = vec![];
        for pid in entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
            if pid <= 1 || pid == self.pid() || !is_in_it(pid)? {
                continue;
            }
            let Some(number) = Pid::from_raw(pid) else { continue };
            let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
                Ok(pidfd) => pidfd,
                Err(e) if is_no_process(e) => continue,
                Err(e) => return Err(Error::Open { pid, source: e.into() }),
            };
            // First the pidfd, then the check, as ever.
            match Process::from_pidfd(pidfd) {
                Ok(process) if is_in_it(pid)? => found.push(process),
                // It ended meanwhile.
                Ok(_) | Err(Error::NotAProcess { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        // Alive now, so it has led that session all the while.
        Ok(if self.is_dead()? { vec![] } else { found })
    }
}

fn session_of(pid: i32) -> Result<Option<i32>, Error> {
    stat_field(pid, SESSION)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use rustix::process::{Signal, setsid};

    use super::*;

    struct Leader(Child);

    impl Drop for Leader {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    fn shell(script: &str, leads: bool) -> Leader {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        if leads {
            // SAFETY: one system call between fork and exec.
            unsafe { command.pre_exec(|| Ok(setsid().map(drop)?)) };
        }
        Leader(command.spawn().unwrap())
    }

    #[test]
    fn a_leader_shows_who_is_in_its_session_as_long_as_it_lives() {
        let leader = shell("sleep 1000 & sleep 1000 & wait", true);
        let process = Process::of_child(leader.0.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while process.session().unwrap().len() < 2 {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(2));
        }
        let members = process.session().unwrap();
        assert!(members.iter().all(|m| m.pid() != process.pid()) && members.len() == 2, "{members:?}");
        process.signal(Signal::KILL).unwrap();
        process.wait(None).unwrap();
        // They live on, but whose session it is cannot be told for long.
        assert!(process.session().unwrap().is_empty());
        for member in members {
            assert!(!member.is_dead().unwrap());
            member.signal(Signal::KILL).unwrap();
        }
    }

    #[test]
    fn who_leads_no_session_has_nobody() {
        let child = shell("exec sleep 1000", false);
        assert!(Process::of_child(child.0.id()).unwrap().session().unwrap().is_empty());
    }
}
