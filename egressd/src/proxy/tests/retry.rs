//! The same with a server that really asks for a second hello: OpenSSL's, which takes P-384 alone.

use super::lab::*;
use crate::policy::{Protocol::*, Reason};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::TcpStream,
    process::{Child, Command},
};

#[tokio::test]
async fn a_client_that_guessed_the_group_wrong_shakes_hands_through_a_retry() {
    let mut lab = lab().await;
    let server = Server::start().await;
    let client = Command::new("openssl")
        .args(["s_client", "-servername", "ok.test", "-groups", "X25519:P-384", "-connect"])
        .arg(lab.transparent().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let carry = async {
        let (mut agent, mut upstream) = (lab.accept().await, server.connect().await);
        copy_bidirectional(&mut agent, &mut upstream).await
    };
    let (output, _) = within(async { tokio::join!(client, carry) }).await;
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.contains("Server Temp Key: ECDH, secp384r1"), "{text}");
    assert!(text.contains("New, TLSv1.3"), "{text}");
    lab.allows("ok.test").await;
}

#[tokio::test]
async fn a_real_retry_is_no_way_to_another_name() {
    let mut lab = lab().await;
    let server = Server::start().await;
    for name in ["ok.test", "no.test"] {
        let (first, second) = (hello("openssl-retry", "ok.test"), hello("openssl-retry-second", name));
        let mut agent = lab.redirected().await;
        agent.write_all(&first).await.unwrap();
        let (mut relayed, mut upstream) = (lab.accept().await, server.connect().await);
        reads(&mut relayed, &first).await;
        lab.allows("ok.test").await;
        upstream.write_all(&first).await.unwrap();
        let mut answer = vec![0; 4096];
        let length = within(upstream.read(&mut answer)).await.unwrap();
        relayed.write_all(&answer[..length]).await.unwrap();
        reads(&mut agent, &answer[..length]).await;

        agent.write_all(&second).await.unwrap();
        match name {
            "ok.test" => reads(&mut relayed, &second).await,
            _ => {
                assert_eq!(read_all(&mut relayed).await, b"");
                assert_eq!(lab.event().await.reason, Some(Reason::ServerNameChanged));
            }
        }
    }
}

/// A hello of tests/fixtures, for `name`, which is as long as the one that it was for.
fn hello(title: &str, name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/hellos/{title}.hello"));
    let mut bytes = fs::read(file).unwrap();
    let at = bytes.windows(7).position(|window| window == b"ok.test").unwrap();
    bytes[at..at + 7].copy_from_slice(name.as_bytes());
    bytes
}

struct Server {
    address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let (key, certificate) = certificate(folder.path()).await;
        let mut process = Command::new("openssl")
            .args(["s_server", "-groups", "P-384", "-www", "-accept", "127.0.0.2:0", "-key"])
            .arg(key)
            .arg("-cert")
            .arg(certificate)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = within(async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the server starts");
                if let Some(address) = line.strip_prefix("ACCEPT ") {
                    return address.parse().unwrap();
                }
            }
        });
        let address = address.await;
        // It writes on, and must not fail at that.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { address, _process: process, _folder: folder }
    }

    async fn connect(&self) -> TcpStream {
        within(TcpStream::connect(self.address)).await.unwrap()
    }
}

async fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
    let status = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=ok.test", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(within(status).await.unwrap().success());
    (key, certificate)
}

async fn lab() -> Lab {
    let lab = Lab::start(|port| vec![host("ok.test", port, Tls), host("no.test", port, Tls)]).await;
    for name in ["ok.test", "no.test"] {
        lab.grant(name, UPSTREAM, Tls);
    }
    lab
}
