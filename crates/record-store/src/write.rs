//! Writing a file whole: under a temporary name, synced, renamed, the directory synced. Whichever of these calls fails,
//! and wherever the process ends, the old content stands or the new one.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::BorrowedFd,
};

use rustix::fs::{Mode, OFlags, fsync, openat, renameat};

/// The fixed name under which a file is written before it takes its place. The file's own lock keeps its writers apart,
/// other files of the directory have other locks; a leftover of a crash is overwritten by the next write.
pub fn temporary(name: &str) -> String {
    format!(".{name}.new")
}

/// The system calls of a write, one by one: a test has the n-th of them fail.
pub trait Calls {
    fn open(&mut self, dir: BorrowedFd<'_>, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Ok(File::from(openat(dir, name, flags, Mode::from_raw_mode(0o600))?))
    }

    fn write(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn rename(&mut self, dir: BorrowedFd<'_>, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(dir, from, dir, to)?)
    }

    fn sync_dir(&mut self, dir: BorrowedFd<'_>) -> io::Result<()> {
        Ok(fsync(dir)?)
    }
}

/// The kernel's own.
pub struct Kernel;

impl Calls for Kernel {}

/// Replaces the file `name` of `dir` by `content`; `synced` unless nothing of it has to outlive the machine.
pub fn replace(
    calls: &mut impl Calls,
    dir: BorrowedFd<'_>,
    name: &str,
    content: &[u8],
    synced: bool,
) -> io::Result<()> {
    let temporary = temporary(name);
    let file = calls.open(dir, &temporary)?;
    fault::point("record.write")?;
    // In two halves, so that a test can be killed between them.
    let (first, second) = content.split_at(content.len() / 2);
    Writer(calls, &file).write_all(first)?;
    fault::point("record.torn")?;
    Writer(calls, &file).write_all(second)?;
    if synced {
        calls.sync(&file)?;
    }
    fault::point("record.rename")?;
    calls.rename(dir, &temporary, name)?;
    if synced {
        calls.sync_dir(dir)?;
    }
    Ok(())
}

/// `write_all` over [`Calls`]: it goes on after short and interrupted writes.
struct Writer<'a, C>(&'a mut C, &'a File);

impl<C: Calls> Write for Writer<'_, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(self.1, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
