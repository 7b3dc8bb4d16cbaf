//! Real servers of git on the lab's internet: nginx with git's own `http-backend` behind it, and dropbear.
//!
//! `http-backend` is what git serves itself with over HTTP; fcgiwrap lets nginx run it, as its manual shows. Both
//! servers have an address for a name, because git asks the resolver of whoever runs the tests.

use crate::{
    lab::Lab,
    places::OK,
    program::{self, Program},
};
use nix::sys::signal::Signal;
use std::{
    fs,
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Serves the folders below `git` in the folder of the lab until it is dropped. `/private` asks who we are,
/// `/forbidden` lets nobody in, `/elsewhere` and `/plain` send to another address.
pub struct WebServer {
    folder: PathBuf,
    nginx: Program,
    backend: Program,
}

/// What a server shows of itself.
#[derive(Debug, Clone, Copy)]
pub enum Certificate {
    Good,
    /// Of an authority that nobody believes.
    Stranger,
    /// For another server.
    OtherName,
    /// Of years ago.
    Expired,
}

/// Who `/private` lets in.
pub const USER: &str = "policies";
pub const PASSWORD: &str = "open-sesame-4711";

impl WebServer {
    pub fn start(lab: &Lab) -> Self {
        let folder = lab.folder().join("git-server");
        fs::create_dir_all(folder.join("issued")).expect("a folder of the lab");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("a file of the lab");
        write("users", &format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
        write("nginx.conf", &configuration(&lab.folder().join("git")));
        write("openssl.cnf", OPENSSL);
        write("index.txt", "");
        openssl(&folder, &["genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"]);
        for authority in ["authority", "stranger"] {
            openssl(&folder, &[AUTHORITY, &format!("-out {authority}.pem -subj /CN={authority}")]);
        }
        issue(&folder, Certificate::Good);
        let mut backend = lab.inet_command("fcgiwrap");
        backend.arg("-s").arg(format!("unix:{}", folder.join("backend.sock").display()));
        let backend = Program::start(backend);
        let mut nginx = lab.inet_command("nginx");
        nginx.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "nginx.log"]);
        let nginx = Program::start(nginx);
        listens(lab, HTTPS);
        Self { folder, nginx, backend }
    }

    /// An address below it.
    pub fn address(path: &str) -> String {
        format!("https://{}:{HTTPS}{path}", OK.v4)
    }

    /// Whom its certificate is believed by.
    pub fn authority(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Shows another certificate from here on.
    pub fn shows(&self, certificate: Certificate) {
        issue(&self.folder, certificate);
        let ended = || {
            let log = fs::read_to_string(self.folder.join("nginx.log")).unwrap_or_default();
            log.matches("exited with code").count()
        };
        let before = ended();
        self.nginx.signal(Signal::SIGHUP);
        program::poll("the end of the worker with the one before", || (ended() > before).then_some(()));
    }

    /// Has who asks wait for an answer while `act` runs.
    pub fn slowly<T>(&self, act: impl FnOnce() -> T) -> T {
        self.backend.signal(Signal::SIGSTOP);
        let done = act();
        self.backend.signal(Signal::SIGCONT);
        done
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        // The master ends its workers when it is asked to, but not when it is killed.
        self.nginx.signal(Signal::SIGTERM);
        let _ = program::poll_for(Duration::from_secs(2), || self.nginx.has_ended().then_some(()));
    }
}

/// Lets in whoever has the key, until it is dropped.
pub struct ShellServer {
    folder: PathBuf,
    _dropbear: Program,
}

impl ShellServer {
    /// `key` is the public half.
    pub fn start(lab: &Lab, key: &str) -> Self {
        let folder = lab.folder().join("ssh-server");
        fs::create_dir_all(folder.join("home/.ssh")).expect("a folder of the lab");
        for path in ["home", "home/.ssh"] {
            fs::set_permissions(folder.join(path), fs::Permissions::from_mode(0o700)).expect("it is ours");
        }
        fs::write(folder.join("home/.ssh/authorized_keys"), key).expect("a file of the lab");
        let mut make = Command::new("dropbearkey");
        make.args(["-t", "ed25519", "-f"]).arg(folder.join("host"));
        assert!(program::run(make).succeeded(), "dropbearkey makes a key");
        // Whoever is let in is root: this server sees another home than root's.
        let mut command = lab.inet_command("unshare");
        let script = format!(
            "mount --bind \"$0\"/home /root && exec dropbear -F -E -s -P \"$0\"/pid -r \"$0\"/host -p {}:{SSH}",
            OK.v4
        );
        command.args(["--mount", "sh", "-c", &script]).arg(&folder);
        let dropbear = Program::start(command);
        listens(lab, SSH);
        Self { folder, _dropbear: dropbear }
    }

    /// The address of a path of this host.
    pub fn address(path: &Path) -> String {
        format!("ssh://root@{}:{SSH}{}", OK.v4, path.display())
    }

    /// What a file of known hosts has to say of it.
    pub fn known(&self) -> String {
        let mut show = Command::new("dropbearkey");
        show.args(["-y", "-f"]).arg(self.folder.join("host"));
        let shown = program::run(show).stdout;
        let key = shown.lines().find(|line| line.starts_with("ssh-ed25519 ")).expect("the public half");
        known(key)
    }
}

/// The same of any key.
pub fn known(key: &str) -> String {
    format!("[{}]:{SSH} {key}\n", OK.v4)
}

const HTTPS: u16 = 8443;
const SSH: u16 = 2222;

fn configuration(root: &Path) -> String {
    let backend = |path: &str| {
        format!(
            "fastcgi_pass unix:{}; fastcgi_param SCRIPT_FILENAME /usr/lib/git-core/git-http-backend; \
             fastcgi_param GIT_PROJECT_ROOT {}; fastcgi_param GIT_HTTP_EXPORT_ALL 1; \
             fastcgi_param PATH_INFO {path}; fastcgi_param QUERY_STRING $query_string; \
             fastcgi_param REQUEST_METHOD $request_method; fastcgi_param CONTENT_TYPE $content_type; \
             fastcgi_param CONTENT_LENGTH $content_length; \
             fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding; \
             fastcgi_param HTTP_GIT_PROTOCOL $http_git_protocol;",
            root.with_file_name("git-server").join("backend.sock").display(),
            root.display()
        )
    };
    let address = OK.v4;
    format!(
        "daemon off; user root; worker_processes 1; pid nginx.pid; error_log nginx.log notice;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
         access_log off; client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3;\n\
         uwsgi_temp_path t4; scgi_temp_path t5;\n\
         server {{\n\
         listen {address}:{HTTPS} ssl http2; ssl_certificate server.pem; ssl_certificate_key key.pem;\n\
         location / {{ {open} }}\n\
         location ~ ^/private(/.*)$ {{ auth_basic lab; auth_basic_user_file users; set $inside $1; {inside} }}\n\
         location /forbidden/ {{ return 403; }}\n\
         location ~ ^/elsewhere(/.*)$ {{ return 301 https://{address}:{HTTPS}$1$is_args$args; }}\n\
         location ~ ^/plain(/.*)$ {{ return 302 http://{address}$1$is_args$args; }}\n\
         }} }}\n",
        open = backend("$uri"),
        inside = backend("$inside"),
    )
}

fn issue(folder: &Path, certificate: Certificate) {
    let (authority, start, end, name) = match certificate {
        Certificate::Good => ("authority", "20200101000000Z", "20991231000000Z", format!("IP:{}", OK.v4)),
        Certificate::Stranger => ("stranger", "20200101000000Z", "20991231000000Z", format!("IP:{}", OK.v4)),
        Certificate::OtherName => {
            ("authority", "20200101000000Z", "20991231000000Z", "DNS:other.test".to_owned())
        }
        Certificate::Expired => ("authority", "20200101000000Z", "20200201000000Z", format!("IP:{}", OK.v4)),
    };
    let request = "req -new -config openssl.cnf -key key.pem -subj /CN=server -out server.csr -addext";
    openssl(folder, &[request, &format!("subjectAltName={name}")]);
    let sign = "ca -config openssl.cnf -batch -notext -in server.csr -keyfile key.pem -out server.pem";
    openssl(folder, &[sign, &format!("-cert {authority}.pem -startdate {start} -enddate {end}")]);
}

/// Words of `arguments` are arguments.
fn openssl(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new("openssl");
    command.args(arguments.iter().flat_map(|words| words.split(' '))).current_dir(folder);
    let outcome = program::run(command);
    assert!(outcome.succeeded(), "`openssl {}` failed: {}", arguments.join(" "), outcome.stderr);
}

fn listens(lab: &Lab, port: u16) {
    let address = SocketAddr::new(OK.v4.into(), port);
    lab.on_inet(|| {
        program::poll(&format!("a listener on {address}"), || {
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()
        });
    });
}

const AUTHORITY: &str =
    "req -x509 -config openssl.cnf -days 2 -key key.pem -addext basicConstraints=critical,CA:TRUE";

const OPENSSL: &str = "[req]\ndistinguished_name = dn\n[dn]\n[ca]\ndefault_ca = lab\n[lab]\nnew_certs_dir = issued\n\
                       database = index.txt\nrand_serial = yes\ndefault_md = sha256\npolicy = any\n\
                       unique_subject = no\ncopy_extensions = copy\n[any]\ncommonName = supplied\n";
