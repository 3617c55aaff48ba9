//! `fold weights pull`, from a server of our own that breaks off, forbids, and sends other bytes than it says.
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine};

/// What a server does, and the requests it has had.
#[derive(Clone)]
struct Server {
    url: String,
    file: Arc<Vec<u8>>,
    /// The checksum it names.
    checksum: String,
    /// Bytes of an answer after which it hangs up.
    breaks_after: usize,
    /// Requests in all, after which it accepts none.
    patience: usize,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(file: &Path, checksum: Option<&str>, breaks_after: usize, patience: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/models/{}", listener.local_addr().expect("an address"), file_name(file));
        let file = fs::read(file).expect("a checkpoint");
        let crc = crc::Crc::<u64>::new(&crc::CRC_64_NVME).checksum(&file);
        let own = BASE64_STANDARD.encode(crc.to_be_bytes());
        let checksum = checksum.map_or(own, str::to_owned);
        let server = Self { url, file: Arc::new(file), checksum, breaks_after, patience, requests: Arc::default() };
        let serving = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().take(serving.patience) {
                serving.answer(&stream.expect("a connection"));
            }
        });
        server
    }

    fn answer(&self, mut stream: &TcpStream) {
        let lines: Vec<_> =
            BufReader::new(stream).lines().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let Some(first) = lines.first() else { return };
        let range = lines.iter().find_map(|l| l.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
        let from = range.as_deref().map_or(0, |r| r.trim_end_matches('-').parse().expect("an offset"));
        self.requests.lock().expect("no panic").push(format!("{} {from}", first.split(' ').next().expect("a verb")));
        if !first.contains("/models/") {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        }
        let (status, body) = (if from > 0 { "206 Partial Content" } else { "200 OK" }, &self.file[from..]);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"tag\"\r\nx-amz-checksum-crc64nvme: {}\r\nConnection: close\r\n\r\n",
            body.len(),
            self.checksum
        );
        let _ = stream.write_all(head.as_bytes());
        if first.starts_with("GET") {
            let _ = stream.write_all(&body[..body.len().min(self.breaks_after)]);
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().expect("no panic").clone()
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

fn pull(folder: &Path, url: &str, more: &[&str]) -> Output {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openfold3/tiny_config.json");
    Command::new(env!("CARGO_BIN_EXE_fold"))
        .args(["weights", "pull", "openfold3", "--url", url, "--config"])
        .arg(config)
        .args(more)
        .env("FOLD_WEIGHTS", folder)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .expect("the program runs")
}

fn tiny() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/openfold3/tiny.pt")
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|e| file_name(&e.expect("an entry").path())).collect();
    names.sort();
    names
}

/// The server hangs up again and again; each request asks for what is missing.
#[test]
fn a_download_that_breaks_off_goes_on() {
    let home = tempfile::tempdir().expect("a folder");
    let size = fs::metadata(tiny()).expect("a file").len() as usize;
    let piece = size / 3 + 1;
    let server = Server::start(&tiny(), None, piece, usize::MAX);
    let output = pull(home.path(), &server.url, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("Apache-2.0"), "{stderr}");
    let expected = ["HEAD 0".to_owned(), "GET 0".to_owned(), format!("GET {piece}"), format!("GET {}", 2 * piece)];
    assert_eq!(server.requests(), expected);
    assert_eq!(files(home.path()), ["openfold3-0.5.0.safetensors"]);

    // Once there, it is not fetched again.
    let output = pull(home.path(), &server.url, &[]);
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("already"));
    assert_eq!(server.requests().len(), 4);
}

/// A server that goes away: what came is kept, and the next run asks for the rest.
#[test]
fn the_next_run_goes_on_where_the_network_failed() {
    let home = tempfile::tempdir().expect("a folder");
    let gone = Server::start(&tiny(), None, 100_000, 2);
    let output = pull(home.path(), &gone.url, &["--keep-checkpoint"]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("run the same command again"), "{stderr}");
    assert_eq!(files(home.path()), ["tiny.pt.tag.part"]);
    let server = Server::start(&tiny(), None, usize::MAX, usize::MAX);
    let output = pull(home.path(), &server.url, &["--keep-checkpoint"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(server.requests(), ["HEAD 0", "GET 100000"]);
    assert_eq!(files(home.path()), ["openfold3-0.5.0.safetensors", "tiny.pt"]);
    assert_eq!(fs::read(home.path().join("tiny.pt")).expect("a file"), fs::read(tiny()).expect("a file"));
}

#[test]
fn other_bytes_than_the_servers_are_thrown_away() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::start(&tiny(), Some("AAAAAAAAAAA="), usize::MAX, usize::MAX);
    let output = pull(home.path(), &server.url, &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{stderr}");
    assert!(stderr.contains("CRC-64/NVME") && stderr.contains("AAAAAAAAAAA="), "{stderr}");
    assert!(files(home.path()).is_empty());
}

#[test]
fn a_missing_file_is_one_clear_line() {
    let home = tempfile::tempdir().expect("a folder");
    let server = Server::start(&tiny(), None, usize::MAX, usize::MAX);
    let output = pull(home.path(), &server.url.replace("models", "elsewhere"), &[]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(66), "{stderr}");
    assert!(stderr.contains("404") && stderr.contains("fold weights convert"), "{stderr}");
    assert!(files(home.path()).is_empty());
}
