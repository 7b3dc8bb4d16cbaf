//! The internet's web servers: a real nginx, with certificates of the lab's own authority.

use crate::{
    lab::Namespace,
    places::{ALT, EVIL, OK, OPEN, Place, SHARED, SHARED_EVIL},
    program::{self, Program},
};
use nix::sys::signal::Signal;
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// nginx, until it is dropped.
pub struct WebServer {
    program: Program,
}

impl WebServer {
    /// Makes the certificates and starts nginx, with all files in `folder`.
    pub fn start(inet: &Namespace, folder: &Path) -> Self {
        make_authority(folder);
        for (name, _) in SITES {
            make_certificate(folder, name);
        }
        let configuration = configuration();
        fs::write(folder.join("nginx.conf"), configuration).expect("nginx.conf can be written");
        let mut command = inet.command("nginx");
        command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "nginx.log"]);
        Self { program: Program::start(command) }
    }

    /// Where it answers.
    pub fn listens() -> Vec<SocketAddr> {
        let places = [OK, ALT, SHARED, EVIL, OPEN].into_iter();
        places.flat_map(addresses).map(|address| SocketAddr::new(address, 443)).collect()
    }

    /// The certificate of the authority that signed all the others.
    pub fn authority(folder: &Path) -> PathBuf {
        folder.join("authority.pem")
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // The master ends its workers when it is asked to, but not when it is killed.
        self.program.signal(Signal::SIGTERM);
        let _ = program::poll_for(Duration::from_secs(2), || self.program.has_ended().then_some(()));
    }
}

/// Names with a certificate, and where they are served. At a shared address the first is what
/// clients get who name none.
const SITES: [(&str, Place); 6] = [
    (OK.name, OK),
    (ALT.name, ALT),
    (SHARED.name, SHARED),
    (SHARED_EVIL, SHARED),
    (EVIL.name, EVIL),
    (OPEN.name, OPEN),
];

fn configuration() -> String {
    let mut text = String::from(
        "daemon off; user root; worker_processes 1; pid nginx.pid; error_log nginx.log;\n\
         events { worker_connections 512; }\n\
         http {\n\
         access_log off; default_type text/plain;\n\
         client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;\n\
         uwsgi_temp_path t4; scgi_temp_path t5;\n",
    );
    for (name, place) in SITES {
        text += &format!("server {{ server_name {name} *.{name};\n");
        for address in addresses(place) {
            let listen = |port: u16| SocketAddr::new(address, port);
            text += &format!("listen {}; listen {};\n", listen(80), listen(8080));
            text += &format!("listen {} ssl http2; listen {} ssl;\n", listen(443), listen(853));
        }
        text += &format!("ssl_certificate {name}.pem; ssl_certificate_key {KEY};\n");
        text += "ssl_protocols TLSv1.2 TLSv1.3;\n";
        text += "location /repository.git/ { root .; }\n";
        text += &format!("location / {{ return 200 \"hello from {name} to $host\\n\"; }} }}\n");
    }
    text + "}\n"
}

fn addresses(place: Place) -> [IpAddr; 2] {
    [place.v4.into(), place.v6.into()]
}

fn make_authority(folder: &Path) {
    fs::write(folder.join("openssl.cnf"), "[req]\ndistinguished_name = dn\n[dn]\n")
        .expect("openssl.cnf can be written");
    let key = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", KEY];
    openssl(folder, &key);
    let subject = ["-subj", "/CN=authority of the lab", "-addext", "basicConstraints=critical,CA:TRUE"];
    certify(folder, "authority", &subject);
}

fn make_certificate(folder: &Path, name: &str) {
    let names = format!("subjectAltName=DNS:{name},DNS:*.{name}");
    let subject = format!("/CN={name}");
    let signer = ["-CA", "authority.pem", "-CAkey", KEY];
    let extensions = ["-subj", &subject, "-addext", &names, "-addext", "basicConstraints=critical,CA:FALSE"];
    certify(folder, name, &[&signer[..], &extensions].concat());
}

fn certify(folder: &Path, name: &str, arguments: &[&str]) {
    let out = format!("{name}.pem");
    let common = ["req", "-x509", "-config", "openssl.cnf", "-days", "2", "-key", KEY, "-out", &out];
    openssl(folder, &[&common[..], arguments].concat());
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder);
    let outcome = program::run(command);
    assert!(outcome.succeeded(), "`openssl {}` failed: {}", arguments.join(" "), outcome.stderr);
}

/// One key serves all: what is tested is names.
const KEY: &str = "key.pem";
