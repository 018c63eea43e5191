//! A web server of a test's own that answers as it is told, well or badly, and a resolver of
//! names that does, too.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use quire_corpus::{HttpSettings, NameResolver};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What is sent for one request: everything after the request is in the test's hands.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Head and body, then the connection ends.
    Sent(Vec<u8>),
    /// Head, then zeros without end.
    Endless(Vec<u8>),
    /// Head, then nothing, with the connection open.
    Silent(Vec<u8>),
}

/// An answer with these headers and its true length.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    let mut sent = head.into_bytes();
    sent.extend_from_slice(body);
    Reply::Sent(sent)
}

/// An answer whose head is written out.
pub(crate) fn raw(head: &str, body: &[u8]) -> Vec<u8> {
    let mut sent = head.replace('\n', "\r\n").into_bytes();
    sent.extend_from_slice(b"\r\n\r\n");
    sent.extend_from_slice(body);
    sent
}

#[derive(Debug, Default)]
struct Content {
    /// Replies to `METHOD /path` in turn; the last one stays.
    replies: HashMap<String, Vec<Reply>>,
    requests: Vec<String>,
}

/// A server on loopback. Dropping it ends its connections.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) port: u16,
    content: Arc<Mutex<Content>>,
    _serving: JoinSet<()>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let content = Arc::new(Mutex::new(Content::default()));
        let mut serving = JoinSet::new();
        let shared = Arc::clone(&content);
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            port,
            content,
            _serving: serving,
        }
    }

    /// What `GET path` (and `HEAD path`, without the body) is answered with, in turn.
    pub(crate) fn put(&self, path: &str, replies: &[Reply]) {
        self.put_for("GET", path, replies);
        self.put_for("HEAD", path, replies);
    }

    pub(crate) fn put_for(&self, method: &str, path: &str, replies: &[Reply]) {
        let mut content = self.content.lock().unwrap();
        let reversed = replies.iter().rev().cloned().collect();
        content.replies.insert(format!("{method} {path}"), reversed);
    }

    /// Heads of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.content.lock().unwrap().requests.clone()
    }

    /// The address of `path` under `host`.
    pub(crate) fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.port)
    }

    /// Settings that allow `http://site.test` and, of this machine, nothing else.
    pub(crate) fn settings(&self) -> HttpSettings {
        HttpSettings {
            private_hosts: vec![format!("site.test:{}", self.port)],
            allow_http: true,
            ..HttpSettings::default()
        }
    }
}

async fn serve(mut stream: TcpStream, content: Arc<Mutex<Content>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let is_head = head.starts_with("HEAD ");
    let line: Vec<&str> = head.split(' ').take(2).collect();
    let reply = {
        let mut content = content.lock().unwrap();
        content.requests.push(head.clone());
        match content.replies.get_mut(&line.join(" ")) {
            Some(replies) if replies.len() > 1 => replies.pop().unwrap(),
            Some(replies) => replies[0].clone(),
            None => answer("404 Not Found", &[], b""),
        }
    };
    // The client may have had enough before the end.
    drop(send(&mut stream, reply, is_head).await);
}

async fn send(stream: &mut TcpStream, reply: Reply, is_head: bool) -> io::Result<()> {
    match reply {
        Reply::Sent(bytes) => {
            let body = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let end = match body {
                Some(at) if is_head => at + 4,
                _ => bytes.len(),
            };
            stream.write_all(&bytes[..end]).await?;
        }
        Reply::Endless(head) => {
            stream.write_all(&head).await?;
            if !is_head {
                loop {
                    stream.write_all(&[0; 8192]).await?;
                }
            }
        }
        Reply::Silent(head) => {
            stream.write_all(&head).await?;
            // Until the client hangs up.
            let mut rest = [0];
            stream.read_exact(&mut rest).await?;
        }
    }
    stream.shutdown().await
}

/// A resolver whose answers are written down.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Answers for each name in turn; the last one stays.
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
}

impl Names {
    /// `site.test` is this machine.
    pub(crate) fn new() -> Self {
        Self::default().with("site.test", &["127.0.0.1"])
    }

    /// Each answer is a list of addresses with commas between.
    pub(crate) fn with(self, name: &str, answers: &[&str]) -> Self {
        let parse = |answer: &&str| {
            let parts = answer.split(',').filter(|part| !part.is_empty());
            parts.map(|ip| ip.parse().unwrap()).collect()
        };
        let parsed = answers.iter().rev().map(parse).collect();
        self.answers.lock().unwrap().insert(name.into(), parsed);
        self
    }
}

impl NameResolver for Names {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.get_mut(&name) {
            Some(answers) if answers.len() > 1 => answers.pop().unwrap(),
            Some(answers) => answers[0].clone(),
            None => return Box::pin(async { Err(io::ErrorKind::NotFound.into()) }),
        };
        Box::pin(async move { Ok(answer) })
    }
}

/// Long enough for an answer on a busy machine, short enough to wait for.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1500);
