//! A terminal: a pty of ours, whose slave is the monitor's stdin and stdout.
//!
//! It is raw and translates nothing: the guest has a terminal of its own behind its serial line. What comes and goes
//! at the master is copied by the daemon, whoever is attached; the slave's last close, with the monitor's death, is its
//! end.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{OptionalActions, OutputModes, tcgetattr, tcsetattr},
};

use super::relay::without_waiting;
use crate::Error;

/// Makes a pty: its master and its slave.
pub fn pty() -> Result<(OwnedFd, OwnedFd), Error> {
    make().map_err(Error::system("make a terminal"))
}

/// A daemon is the leader of a session: without NOCTTY it would become its terminal.
const FLAGS: OpenptFlags = OpenptFlags::RDWR.union(OpenptFlags::NOCTTY).union(OpenptFlags::CLOEXEC);

/// One more slave: not by its name, which depends on what is mounted.
pub fn slave(master: &OwnedFd) -> Result<OwnedFd, Errno> {
    ioctl_tiocgptpeer(master, FLAGS)
}

fn make() -> Result<(OwnedFd, OwnedFd), Errno> {
    let master = openpt(FLAGS)?;
    unlockpt(&master)?;
    let slave = slave(&master)?;
    let mut modes = tcgetattr(&slave)?;
    modes.make_raw();
    // QEMU turns output processing on again: then there must be nothing to do.
    modes.output_modes = OutputModes::empty();
    tcsetattr(&slave, OptionalActions::Now, &modes)?;
    without_waiting(&master)?;
    Ok((master, slave))
}
