//! A stretch of a file read as if it were a file: a member of a tar archive where it lies, or the whole.
//!
//! Tar (POSIX.1-1988, with the prefix of ustar): before each member a block of 512 bytes with name, size in octal and kind; members
//! are padded to whole blocks. Nothing in the archive is unpacked or run.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::Error;

const BLOCK: u64 = 512;

/// Bytes `start..start + len` of a file.
#[derive(Debug)]
pub(crate) struct Section {
    file: File,
    start: u64,
    len: u64,
    at: u64,
}

impl Section {
    /// The whole of `path`, or of it as a tar archive the member whose file name is `member`.
    pub fn open(path: &Path, member: Option<&str>) -> Result<Self, Error> {
        let read = |source| Error::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let Some(member) = member else {
            let len = file.metadata().map_err(read)?.len();
            return Ok(Self { file, start: 0, len, at: 0 });
        };
        let members = members(path)?;
        let Some((_, start, len)) = members.into_iter().find(|(name, ..)| name == member) else {
            return Err(Error::Format { path: path.to_owned(), problem: format!("holds no {member}") });
        };
        let mut section = Self { file, start, len, at: 0 };
        section.rewind().map_err(read)?;
        Ok(section)
    }
}

impl Read for Section {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let n = out.len().min(left);
        let n = self.file.read(&mut out[..n])?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        Ok(self.at)
    }
}

/// Is the file a tar archive?
pub(crate) fn is_tar(path: &Path) -> Result<bool, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let mut block = Vec::new();
    File::open(path).map_err(read)?.take(BLOCK).read_to_end(&mut block).map_err(read)?;
    Ok(is_header(&block))
}

/// File name, first byte and length of each regular member of a tar archive.
pub(crate) fn members(path: &Path) -> Result<Vec<(String, u64, u64)>, Error> {
    let read = |source| Error::Read { path: path.to_owned(), source };
    let damaged = || Error::Format {
        path: path.to_owned(),
        problem: "is cut short or damaged, download it again (tar archive)".to_owned(),
    };
    let mut file = File::open(path).map_err(read)?;
    let len = file.metadata().map_err(read)?.len();
    let (mut found, mut at) = (Vec::new(), 0);
    while at + BLOCK <= len {
        let mut block = [0; BLOCK as usize];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut block)).map_err(read)?;
        if block == [0; BLOCK as usize] {
            return Ok(found);
        }
        let size = is_header(&block).then(|| size(&block[124..136])).flatten().ok_or_else(damaged)?;
        let start = at + BLOCK;
        let end = start.checked_add(size).filter(|end| *end <= len).ok_or_else(damaged)?;
        if matches!(block[156], b'0' | 0) {
            let name = block[..100].split(|b| *b == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            found.push((name.rsplit('/').next().unwrap_or_default().to_owned(), start, size));
        }
        at = end.next_multiple_of(BLOCK);
    }
    // The end of an archive is two empty blocks.
    Err(damaged())
}

/// The checksum of a header is the sum of its bytes, those of the checksum itself counted as spaces.
fn is_header(block: &[u8]) -> bool {
    let sum = |block: &[u8]| block.iter().map(|b| u64::from(*b)).sum::<u64>();
    block.len() == BLOCK as usize
        && octal(&block[148..156]) == Some(sum(block) - sum(&block[148..156]) + 8 * u64::from(b' '))
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).ok()
}

/// Octal, or big-endian behind a set first bit for what is too large for that.
fn size(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, 0, 0, 0, rest @ ..] => Some(u64::from_be_bytes(rest.try_into().ok()?)),
        _ => octal(field),
    }
}
