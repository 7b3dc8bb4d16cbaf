// throwaway stub for integration, replaced by the real gate
use crate::{audit::Recorder, policy::*};
use hickory_proto::{op::*, rr::*};
use hickory_resolver::{config::*, net::runtime::TokioRuntimeProvider, *};
use std::{net::*, pin::Pin, sync::Arc, time::Duration};
pub struct Sockets {
    pub udp: Vec<tokio::net::UdpSocket>,
    pub tcp: Vec<tokio::net::TcpListener>,
}
pub struct Upstream(TokioResolver);
impl Upstream {
    pub fn from_host() -> anyhow::Result<Self> {
        Ok(Self(TokioResolver::builder_tokio()?.build()?))
    }
    pub fn to(s: &[SocketAddr]) -> anyhow::Result<Self> {
        let ns = s
            .iter()
            .map(|a| {
                let mut n = NameServerConfig::udp_and_tcp(a.ip());
                for c in &mut n.connections {
                    c.port = a.port();
                }
                n
            })
            .collect();
        let c = ResolverConfig::from_parts(None, vec![], ns);
        Ok(Self(TokioResolver::builder_with_config(c, TokioRuntimeProvider::default()).build()?))
    }
}
pub struct Gate {
    up: Upstream,
    sink: Arc<dyn GrantSink>,
    clock: fn() -> Moment,
}
impl Gate {
    pub fn new(up: Upstream, sink: Arc<dyn GrantSink>, _r: Recorder, clock: fn() -> Moment) -> Arc<Self> {
        Arc::new(Self { up, sink, clock })
    }
}
impl Resolve for Gate {
    fn resolve<'a>(
        &'a self,
        agent: &'a Agent,
        name: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, Denial>> + Send + 'a>> {
        Box::pin(async move {
            let leave = agent.lookup(name)?;
            let f = Name::from_ascii(format!("{name}.")).unwrap();
            let ips: Vec<IpAddr> = match self.up.0.lookup_ip(f).await {
                Ok(l) => l.iter().collect(),
                Err(e) => {
                    eprintln!("{e}");
                    return Err(Denial::because(Reason::UpstreamFailed));
                }
            };
            let now = (self.clock)();
            let g: Vec<Grant> = ips
                .iter()
                .flat_map(|a| {
                    leave.openings().iter().map(move |o| Grant {
                        name: name.clone(),
                        address: *a,
                        port: o.port,
                        protocol: o.protocol,
                        rule: o.rule,
                        expires: now.after(Duration::from_secs(60)),
                    })
                })
                .collect();
            agent.remember(&g, now).unwrap();
            self.sink.install(agent, &g).await.map_err(|e| {
                eprintln!("{e}");
                Denial::because(Reason::GrantNotInstalled)
            })?;
            Ok(ips)
        })
    }
}
pub async fn serve(agent: Arc<Agent>, sockets: Sockets, gate: Arc<Gate>, _o: Arc<dyn OriginLookup>) {
    let mut set = tokio::task::JoinSet::new();
    for s in sockets.udp {
        let (agent, gate) = (agent.clone(), gate.clone());
        set.spawn(async move {
            let mut b = [0; 4096];
            loop {
                let Ok((n, from)) = s.recv_from(&mut b).await else { continue };
                let Ok(q) = Message::from_vec(&b[..n]) else { continue };
                let qq = q.queries[0].clone();
                let mut r = Message::response(q.metadata.id, OpCode::Query);
                r.metadata.recursion_available = true;
                r.metadata.recursion_desired = true;
                r.add_query(qq.clone());
                match HostName::parse(&qq.name().to_ascii()) {
                    Ok(h) => match gate.resolve(&agent, &h).await {
                        Ok(ips) => {
                            for ip in ips {
                                match (ip, qq.query_type()) {
                                    (IpAddr::V4(a), RecordType::A) => {
                                        r.add_answer(Record::from_rdata(
                                            qq.name().clone(),
                                            30,
                                            RData::A(rdata::A(a)),
                                        ));
                                    }
                                    (IpAddr::V6(a), RecordType::AAAA) => {
                                        r.add_answer(Record::from_rdata(
                                            qq.name().clone(),
                                            30,
                                            RData::AAAA(rdata::AAAA(a)),
                                        ));
                                    }
                                    _ => {}
                                }
                            }
                        }
                        Err(_) => {
                            r.metadata.response_code = ResponseCode::Refused;
                        }
                    },
                    Err(_) => {
                        r.metadata.response_code = ResponseCode::Refused;
                    }
                }
                let _ = s.send_to(&r.to_vec().unwrap(), from).await;
            }
        });
    }
    let _t = sockets.tcp;
    while set.join_next().await.is_some() {}
}
