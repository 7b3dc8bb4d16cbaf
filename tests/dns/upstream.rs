//! A resolver of the far side that says what a test tells it to, and remembers what it was asked.

use egressd::policy::Transport;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, SOA},
    },
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
};

/// What the resolver says to one question.
#[derive(Clone)]
pub enum Say {
    Addresses(Vec<IpAddr>),
    /// The same, with this TTL.
    For(u32, Vec<IpAddr>),
    /// An alias, and nothing of where it leads.
    Alias(String),
    /// Records of other types.
    Records(Vec<RData>),
    /// An alias, and the address at its end.
    AliasTo(String, IpAddr),
    NoName,
    NoData,
    Failure,
    Nothing,
    /// First a forged answer with another id, then the true one.
    AfterForgery {
        forged: IpAddr,
        real: IpAddr,
    },
    /// The address in each section where it does not belong, and under another name.
    Stray(IpAddr),
    /// Octets that are no DNS message.
    Noise,
    /// Over UDP the question comes back in lower case, as from one who did not see how it was spelt.
    Respelt {
        forged: IpAddr,
        real: IpAddr,
    },
}

pub struct Upstream {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Message>>>,
    /// One permit for each response that may leave.
    pub leave: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

type Zone = Arc<dyn Fn(&str, RecordType) -> Say + Send + Sync>;

impl Upstream {
    pub async fn start(zone: impl Fn(&str, RecordType) -> Say + Send + Sync + 'static) -> Self {
        let upstream = Self::start_held(zone).await;
        upstream.leave.add_permits(1_000_000);
        upstream
    }

    /// Answers nothing until the test adds permits to `leave`.
    pub async fn start_held(zone: impl Fn(&str, RecordType) -> Say + Send + Sync + 'static) -> Self {
        let (udp, tcp) = bind().await;
        let address = udp.local_addr().unwrap();
        let (seen, leave) = (Arc::default(), Arc::new(Semaphore::new(0)));
        let desk = Desk { zone: Arc::new(zone), seen: Arc::clone(&seen), leave: Arc::clone(&leave) };
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(desk.clone(), Arc::new(udp)));
        tasks.spawn(serve_tcp(desk, tcp));
        Self { address, seen, leave, _tasks: tasks }
    }

    pub fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }

    /// The questions that came, as `name TYPE`, in lower case.
    pub fn asked(&self) -> Vec<String> {
        let text = |message: &Message| {
            let query = &message.queries[0];
            format!(
                "{} {}",
                query.name().to_lowercase().to_string().trim_end_matches('.'),
                query.query_type()
            )
        };
        self.seen().iter().map(text).collect()
    }
}

#[derive(Clone)]
struct Desk {
    zone: Zone,
    seen: Arc<Mutex<Vec<Message>>>,
    leave: Arc<Semaphore>,
}

impl Desk {
    async fn replies(&self, bytes: &[u8], transport: Transport) -> Vec<Vec<u8>> {
        let query = Message::from_vec(bytes).unwrap();
        self.seen.lock().unwrap().push(query.clone());
        self.leave.acquire().await.unwrap().forget();
        let name = query.queries[0].name().to_lowercase().to_string();
        let say = (self.zone)(name.trim_end_matches('.'), query.queries[0].query_type());
        say.messages(&query, transport)
    }
}

async fn serve_udp(desk: Desk, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let (desk, socket, query) = (desk.clone(), Arc::clone(&socket), buffer[..length].to_vec());
        tokio::spawn(async move {
            for mut reply in desk.replies(&query, Transport::Udp).await {
                if reply.len() > 1232 {
                    reply.truncate(0);
                    let mut cut = Message::from_vec(&query).unwrap().into_response();
                    cut.metadata.truncation = true;
                    reply.extend(cut.to_vec().unwrap());
                }
                socket.send_to(&reply, peer).await.unwrap();
            }
        });
    }
}

async fn serve_tcp(desk: Desk, listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer_tcp(desk.clone(), stream));
    }
}

async fn answer_tcp(desk: Desk, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        for reply in desk.replies(&query, Transport::Tcp).await {
            stream.write_u16(u16::try_from(reply.len()).unwrap()).await?;
            stream.write_all(&reply).await?;
        }
    }
}

impl Say {
    fn messages(&self, query: &Message, transport: Transport) -> Vec<Vec<u8>> {
        let name = query.queries[0].name().clone();
        let mut message = query.clone().into_response();
        message.metadata.recursion_available = true;
        match self {
            Self::Addresses(addresses) => message.answers = records(&name, 60, addresses),
            Self::For(ttl, addresses) => message.answers = records(&name, *ttl, addresses),
            Self::Alias(target) => message.answers = vec![alias(&name, target)],
            Self::AliasTo(target, address) => {
                message.answers = vec![alias(&name, target)];
                message.answers.extend(records(&parse(target), 60, &[*address]));
            }
            Self::NoName => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.authorities = vec![soa(20)];
            }
            Self::Records(records) => {
                let record = |data: &RData| Record::from_rdata(name.clone(), 60, data.clone());
                message.answers = records.iter().map(record).collect();
            }
            Self::NoData => message.authorities = vec![soa(20)],
            Self::Failure => message.metadata.response_code = ResponseCode::ServFail,
            Self::Nothing => return Vec::new(),
            Self::AfterForgery { forged, real } => {
                let mut forgery = message.clone();
                forgery.metadata.id = forgery.metadata.id.wrapping_add(1);
                forgery.answers = records(&name, 60, &[*forged]);
                message.answers = records(&name, 60, &[*real]);
                return [forgery, message].map(|message| message.to_vec().unwrap()).into();
            }
            Self::Stray(address) => {
                message.answers = records(&parse("stray.test"), 60, &[*address]);
                message.authorities = records(&name, 60, &[*address]);
                message.additionals = records(&name, 60, &[*address]);
            }
            Self::Respelt { forged, .. } if transport == Transport::Udp => {
                message.queries[0].set_name(name.to_lowercase());
                message.answers = records(&name, 60, &[*forged]);
            }
            Self::Respelt { real, .. } => message.answers = records(&name, 60, &[*real]),
            Self::Noise => return vec![[&query.metadata.id.to_be_bytes()[..], &[0xff; 90]].concat()],
        }
        vec![message.to_vec().unwrap()]
    }
}

fn records(name: &Name, ttl: u32, addresses: &[IpAddr]) -> Vec<Record> {
    let record = |address: &IpAddr| {
        let data = match address {
            IpAddr::V4(address) => RData::A(A(*address)),
            IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
        };
        Record::from_rdata(name.clone(), ttl, data)
    };
    addresses.iter().map(record).collect()
}

fn alias(name: &Name, target: &str) -> Record {
    Record::from_rdata(name.clone(), 60, RData::CNAME(CNAME(parse(target))))
}

fn soa(minimum: u32) -> Record {
    let soa = SOA::new(parse("ns.test"), parse("admin.test"), 1, 1, 1, 1, minimum);
    Record::from_rdata(parse("test"), 900, RData::SOA(soa))
}

fn parse(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap()
}

/// UDP and TCP at the same port of loopback.
pub async fn bind() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}
