//! What containerd gives an action on stdin.

use std::io::{IsTerminal, Read, stdin};

use crate::error::Error;

/// The most that is read, in bytes: containerd's own limit.
const MOST: u64 = 10 * 1024 * 1024;

/// All of stdin, but nothing of a terminal: somebody who tries it by hand must not have to end the input first.
pub fn read() -> Result<Vec<u8>, Error> {
    let (mut all, stdin) = (Vec::new(), stdin());
    if !stdin.is_terminal() {
        stdin.lock().take(MOST).read_to_end(&mut all).map_err(Error::system("read stdin"))?;
    }
    Ok(all)
}
