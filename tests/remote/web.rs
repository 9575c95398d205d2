//! A web server on loopback that shows a folder, and that a test can have say something else.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// What is said to a request.
pub(crate) enum Answer {
    /// What the folder holds.
    Honest,
    /// These bytes, under this length.
    Body { bytes: Vec<u8>, length: usize },
    /// A status alone.
    Status(u16),
    /// Nothing, for a long time.
    Silence,
}

pub(crate) type Manner = Box<dyn Fn(&str, &[u8]) -> Answer + Send>;

/// A server that lives as long as the test.
pub(crate) struct Web {
    folder: PathBuf,
    manner: Mutex<Manner>,
    port: u16,
    requests: AtomicUsize,
}

impl Web {
    pub(crate) fn of(folder: &Path) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let web = Arc::new(Self {
            folder: folder.to_owned(),
            manner: Mutex::new(Box::new(|_, _| Answer::Honest)),
            port: listener.local_addr().unwrap().port(),
            requests: AtomicUsize::new(0),
        });
        let server = Arc::clone(&web);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                // A client that goes away is no failure of the server.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        web
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// From now on says this of a path and what the folder holds there.
    pub(crate) fn says(&self, manner: impl Fn(&str, &[u8]) -> Answer + Send + 'static) {
        *self.manner.lock().unwrap() = Box::new(manner);
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        self.requests.fetch_add(1, Ordering::Relaxed);
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        let found = fs::read(self.folder.join(path.trim_start_matches('/'))).ok();
        let answer = (self.manner.lock().unwrap())(&path, found.as_deref().unwrap_or_default());
        match (answer, found) {
            (Answer::Honest, Some(body)) => {
                let range =
                    head.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
                let part = range.and_then(|range| {
                    let (start, end) = range.split_once('-')?;
                    Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
                });
                if let Some((start, end)) = part {
                    let all = body.len();
                    write!(stream, "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{end}/{all}\r\n")?;
                    return send(&mut stream, &body[start..=end], end + 1 - start);
                }
                write!(stream, "HTTP/1.1 200 OK\r\n")?;
                send(&mut stream, &body, body.len())
            }
            (Answer::Honest, None) => {
                write!(stream, "HTTP/1.1 404 Not Found\r\n")?;
                send(&mut stream, b"", 0)
            }
            (Answer::Status(status), _) => {
                write!(stream, "HTTP/1.1 {status} So\r\n")?;
                send(&mut stream, b"", 0)
            }
            (Answer::Body { bytes, length }, _) => {
                write!(stream, "HTTP/1.1 200 OK\r\n")?;
                send(&mut stream, &bytes, length)
            }
            (Answer::Silence, _) => {
                thread::sleep(Duration::from_mins(1));
                Ok(())
            }
        }
    }
}

fn send(stream: &mut TcpStream, bytes: &[u8], length: usize) -> std::io::Result<()> {
    write!(stream, "Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(bytes)
}
