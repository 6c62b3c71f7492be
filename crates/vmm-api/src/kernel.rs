//! What a kernel file is, told from its headers.

use std::{fs::File, io, os::unix::fs::FileExt};

use serde::{Deserialize, Serialize};

/// The formats of kernel files that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// A Linux x86 boot image (Documentation/arch/x86/boot.rst).
    BzImage {
        /// The longest command line that it takes, in bytes without the terminating NUL (`cmdline_size`).
        cmdline_max: u32,
    },
    /// An x86-64 ELF file with a PVH entry point (Xen note 18, `XEN_ELFNOTE_PHYS32_ENTRY`).
    PvhElf,
    /// An ELF file without a PVH entry point.
    OtherElf,
    /// None of these.
    Unknown,
}

impl Format {
    /// The format in a few words, for error messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::BzImage { .. } => "a Linux bzImage",
            Self::PvhElf => "an ELF file with a PVH entry point",
            Self::OtherElf => "an ELF file without a PVH entry point",
            Self::Unknown => "neither a Linux bzImage nor an ELF file",
        }
    }

    /// Reads the headers of `file`. The file comes from an image: every offset in it is distrusted, reads are
    /// bounded, and a header that makes no sense is [`Format::Unknown`] or [`Format::OtherElf`], never an error.
    /// Errors are those of reading.
    pub fn probe(file: &File) -> io::Result<Self> {
        let mut head = [0u8; 1024];
        let n = read_at_most(file, &mut head, 0)?;
        let head = &head[..n];
        if head.starts_with(b"\x7fELF") {
            return Ok(if is_pvh(file, head)? { Self::PvhElf } else { Self::OtherElf });
        }
        if n >= 0x23c && head[0x202..0x206] == *b"HdrS" {
            let version = u16::from_le_bytes([head[0x206], head[0x207]]);
            // Before protocol 2.06 there is no cmdline_size; the limit was 255.
            let cmdline_max = if version >= 0x206 { le32(head, 0x238) } else { 255 };
            return Ok(Self::BzImage { cmdline_max });
        }
        Ok(Self::Unknown)
    }
}

fn read_at_most(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    // Beyond what an offset can be there is nothing to read.
    if offset > i64::MAX as u64 - buf.len() as u64 {
        return Ok(0);
    }
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

fn le16(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

fn le32(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

fn le64(b: &[u8], at: usize) -> u64 {
    u64::from(le32(b, at)) | u64::from(le32(b, at + 4)) << 32
}

/// Looks for the PVH note in the PT_NOTE segments of a 64-bit little-endian ELF file.
fn is_pvh(file: &File, head: &[u8]) -> io::Result<bool> {
    const PT_NOTE: u32 = 4;
    const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
    const MOST_HEADERS: usize = 64;
    const MOST_NOTES: usize = 64 * 1024;
    if head.len() < 64 || head[4] != 2 || head[5] != 1 {
        return Ok(false);
    }
    let (phoff, phentsize) = (le64(head, 32), usize::from(le16(head, 54)));
    let phnum = usize::from(le16(head, 56)).min(MOST_HEADERS);
    if phentsize < 56 {
        return Ok(false);
    }
    for i in 0..phnum {
        let mut ph = [0u8; 56];
        let Some(at) = phoff.checked_add((i * phentsize) as u64) else { return Ok(false) };
        if read_at_most(file, &mut ph, at)? < ph.len() || le32(&ph, 0) != PT_NOTE {
            continue;
        }
        let size = usize::try_from(le64(&ph, 32)).unwrap_or(usize::MAX).min(MOST_NOTES);
        let mut notes = vec![0u8; size];
        let n = read_at_most(file, &mut notes, le64(&ph, 8))?;
        let mut rest = &notes[..n];
        while rest.len() >= 12 {
            let (name, desc, kind) = (le32(rest, 0) as usize, le32(rest, 4) as usize, le32(rest, 8));
            if kind == XEN_ELFNOTE_PHYS32_ENTRY && rest[12..].starts_with(b"Xen\0") {
                return Ok(true);
            }
            let skip =
                12usize.saturating_add(name.next_multiple_of(4)).saturating_add(desc.next_multiple_of(4));
            if skip > rest.len() {
                break;
            }
            rest = &rest[skip..];
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn probe(bytes: &[u8]) -> Format {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Format::probe(&file).unwrap()
    }

    #[test]
    fn a_bzimage_tells_its_longest_command_line() {
        let mut image = vec![0u8; 1024];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
        image[0x238..0x23c].copy_from_slice(&2047u32.to_le_bytes());
        assert_eq!(probe(&image), Format::BzImage { cmdline_max: 2047 });
    }

    #[test]
    fn garbage_is_unknown_and_hostile_headers_end() {
        assert_eq!(probe(b""), Format::Unknown);
        assert_eq!(probe(b"#!/bin/sh\n"), Format::Unknown);
        let mut elf = vec![0xffu8; 200];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[4] = 2;
        elf[5] = 1;
        assert_eq!(probe(&elf), Format::OtherElf);
    }

    #[test]
    fn a_pvh_note_is_found() {
        let mut elf = vec![0u8; 256];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[4] = 2;
        elf[5] = 1;
        elf[32..40].copy_from_slice(&64u64.to_le_bytes());
        elf[54..56].copy_from_slice(&56u16.to_le_bytes());
        elf[56..58].copy_from_slice(&1u16.to_le_bytes());
        elf[64..68].copy_from_slice(&4u32.to_le_bytes());
        elf[72..80].copy_from_slice(&128u64.to_le_bytes());
        elf[96..104].copy_from_slice(&20u64.to_le_bytes());
        elf[128..132].copy_from_slice(&4u32.to_le_bytes());
        elf[132..136].copy_from_slice(&4u32.to_le_bytes());
        elf[136..140].copy_from_slice(&18u32.to_le_bytes());
        elf[140..144].copy_from_slice(b"Xen\0");
        assert_eq!(probe(&elf), Format::PvhElf);
        elf[136] = 17;
        assert_eq!(probe(&elf), Format::OtherElf);
    }
}
