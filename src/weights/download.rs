//! Fetches a checkpoint: goes on where an earlier attempt stopped, and compares the whole with the checksum the server keeps.
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use crc::{CRC_32_ISCSI, CRC_64_NVME, Crc, Table};
use ureq::http::HeaderMap;
use ureq::{Agent, Body, http};

/// Attempts in a row that may end without a byte.
const ATTEMPTS: usize = 5;
/// A server that says nothing for so long is taken for dead.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No answer, or none to the end.
    #[error("{url}: {problem}; what has come is kept, run the same command again to go on")]
    Network {
        /// Where it was asked.
        url: String,
        /// What the connection said.
        problem: String,
    },
    /// The server has no such file, or does not give it.
    #[error(
        "{url}: the server answers {status}; --url names another address, or fetch the file yourself and give it to fold weights convert"
    )]
    Refused {
        /// Where it was asked.
        url: String,
        /// The answer, such as 404.
        status: u16,
    },
    /// What came is not what the server has.
    #[error(
        "{url}: {what} of what came is {found}, and the server's {expected}; it was thrown away, run the same command again"
    )]
    Checksum {
        /// Where it came from.
        url: String,
        /// Which checksum.
        what: &'static str,
        /// Of the file that came.
        found: String,
        /// Of the server's file.
        expected: String,
    },
    /// The file cannot be written.
    #[error("{path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// What the server says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remote {
    /// Bytes.
    len: Option<u64>,
    /// Changes with the content.
    tag: String,
    checksum: Option<Checksum>,
}

/// A checksum of the whole file, base64 of its big-endian bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Checksum {
    /// Amazon S3.
    Crc64Nvme(String),
    /// Google Cloud Storage.
    Crc32c(String),
}

impl Remote {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let google = headers.get_all("x-goog-hash").iter().filter_map(|v| v.to_str().ok());
        let crc32c =
            google.flat_map(|v| v.split(',')).find_map(|v| v.trim().strip_prefix("crc32c=").map(str::to_owned));
        // Checksums of parts, "...-7", say nothing of the whole.
        let amazon = text("x-amz-checksum-crc64nvme").filter(|v| !v.contains('-')).map(str::to_owned);
        Self {
            len: text("content-length").and_then(|v| v.parse().ok()),
            tag: text("etag").or_else(|| text("last-modified")).unwrap_or_default().to_owned(),
            checksum: amazon.map(Checksum::Crc64Nvme).or_else(|| crc32c.map(Checksum::Crc32c)),
        }
    }
}

impl Checksum {
    /// Compares it with the file's.
    fn check(&self, path: &Path, url: &str) -> Result<(), DownloadError> {
        let (what, expected, found) = match self {
            Self::Crc64Nvme(expected) => {
                let crc = Crc::<u64, Table<16>>::new(&CRC_64_NVME);
                let mut digest = crc.digest();
                read_through(path, |bytes| digest.update(bytes))?;
                ("CRC-64/NVME", expected, BASE64_STANDARD.encode(digest.finalize().to_be_bytes()))
            }
            Self::Crc32c(expected) => {
                let crc = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
                let mut digest = crc.digest();
                read_through(path, |bytes| digest.update(bytes))?;
                ("CRC-32C", expected, BASE64_STANDARD.encode(digest.finalize().to_be_bytes()))
            }
        };
        if found == *expected {
            return Ok(());
        }
        fs::remove_file(path).map_err(|source| DownloadError::Write { path: path.to_owned(), source })?;
        Err(DownloadError::Checksum { url: url.to_owned(), what, found, expected: expected.clone() })
    }
}

fn read_through(path: &Path, mut each: impl FnMut(&[u8])) -> Result<(), DownloadError> {
    let fault = |source| DownloadError::Write { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(fault)?;
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).map_err(fault)? {
            0 => return Ok(()),
            n => each(&block[..n]),
        }
    }
}

/// Fetches `url` to `target`, which appears only when it is whole. What has come so far lies beside it as
/// `<target>.<tag>.part`, the tag being the server's name for this content: another content begins anew. `progress` is told
/// the bytes there are and, if the server says, in all.
pub fn download(url: &str, target: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), DownloadError> {
    let agent = agent();
    let remote = ask(&agent, url)?;
    let part = part_name(target, &remote.tag);
    let fault = |source| DownloadError::Write { path: part.clone(), source };
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).map_err(fault)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(&part).map_err(fault)?;
    let mut fruitless = 0;
    loop {
        let there = file.seek(SeekFrom::End(0)).map_err(fault)?;
        if remote.len == Some(there) {
            break;
        }
        match fetch(&agent, url, &mut file, there, &remote, progress) {
            Ok(()) if remote.len.is_none() => break,
            Ok(()) => {}
            Err(Ended::Here(e)) => return Err(e),
            Err(Ended::Fault(source)) => return Err(fault(source)),
            Err(Ended::Early(problem)) => {
                let grown = file.seek(SeekFrom::End(0)).map_err(fault)? > there;
                fruitless = if grown { 0 } else { fruitless + 1 };
                if fruitless == ATTEMPTS {
                    return Err(DownloadError::Network { url: url.to_owned(), problem });
                }
                std::thread::sleep(Duration::from_millis(200 << fruitless));
            }
        }
    }
    file.sync_all().map_err(fault)?;
    drop(file);
    if let Some(checksum) = &remote.checksum {
        checksum.check(&part, url)?;
    }
    fs::rename(&part, target).map_err(fault)
}

fn agent() -> Agent {
    let provider =
        if cfg!(target_os = "macos") { ureq::tls::TlsProvider::NativeTls } else { ureq::tls::TlsProvider::Rustls };
    let tls = ureq::tls::TlsConfig::builder().provider(provider).build();
    let patience = Some(PATIENCE);
    let config = Agent::config_builder().tls_config(tls).timeout_connect(patience).timeout_recv_response(patience);
    config.http_status_as_error(false).build().into()
}

/// Length, tag and checksum of the file; asked several times, since a network may be slow to wake.
fn ask(agent: &Agent, url: &str) -> Result<Remote, DownloadError> {
    let mut problem = String::new();
    for attempt in 0..ATTEMPTS {
        match agent.head(url).header("x-amz-checksum-mode", "ENABLED").call() {
            Ok(answer) if answer.status().is_success() => return Ok(Remote::of(answer.headers())),
            Ok(answer) if !answer.status().is_server_error() => {
                return Err(DownloadError::Refused { url: url.to_owned(), status: answer.status().as_u16() });
            }
            Ok(answer) => problem = format!("the server answers {}", answer.status()),
            Err(e) => problem = e.to_string(),
        }
        std::thread::sleep(Duration::from_millis(100 << attempt));
    }
    Err(DownloadError::Network { url: url.to_owned(), problem })
}

/// How an attempt ended before the end of the file.
enum Ended {
    /// The network: worth another attempt.
    Early(String),
    /// The disk.
    Fault(std::io::Error),
    /// Nothing will help.
    Here(DownloadError),
}

/// One attempt: the bytes from `there` on.
fn fetch(
    agent: &Agent,
    url: &str,
    file: &mut File,
    there: u64,
    remote: &Remote,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Ended> {
    let mut request = agent.get(url);
    if there > 0 {
        request = request.header("range", format!("bytes={there}-"));
    }
    let mut answer: http::Response<Body> = request.call().map_err(|e| Ended::Early(e.to_string()))?;
    let mut done = match answer.status().as_u16() {
        206 => there,
        // A server without ranges sends it all again.
        200 => {
            file.set_len(0).map_err(Ended::Fault)?;
            0
        }
        status if status >= 500 => return Err(Ended::Early(format!("the server answers {status}"))),
        status => return Err(Ended::Here(DownloadError::Refused { url: url.to_owned(), status })),
    };
    let mut body = answer.body_mut().as_reader();
    let mut block = vec![0; 1 << 18];
    loop {
        let n = body.read(&mut block).map_err(|e| Ended::Early(e.to_string()))?;
        if n == 0 {
            return match remote.len {
                Some(len) if done < len => Err(Ended::Early(format!("{done} of {len} bytes came"))),
                _ => Ok(()),
            };
        }
        file.write_all(&block[..n]).map_err(Ended::Fault)?;
        done += n as u64;
        progress(done, remote.len.unwrap_or(done));
    }
}

fn part_name(target: &Path, tag: &str) -> PathBuf {
    let tag: String = tag.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
    let name = target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!("{name}.{tag}.part"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_the_stores_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // The check values of the two polynomials.
        let crc64 = BASE64_STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes());
        let crc32 = BASE64_STANDARD.encode(0xe306_9283_u32.to_be_bytes());
        for checksum in [Checksum::Crc64Nvme(crc64), Checksum::Crc32c(crc32)] {
            fs::write(&path, "123456789").unwrap();
            checksum.check(&path, "url").unwrap();
            fs::write(&path, "123456780").unwrap();
            assert!(matches!(checksum.check(&path, "url"), Err(DownloadError::Checksum { .. })));
            assert!(!path.exists());
        }
    }
}
