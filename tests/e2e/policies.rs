//! Policies that several scenarios use. The lab's addresses are private ones, which a rule has to
//! opt into.

/// Something of every kind, for `ok.test`, `ok2.test` and `db.test`; nothing for anyone else.
pub const COMMON: &str = "
version: 1
agents:
  default:
    rules:
      - {host: ok.test, private: true}
      - {host: '*.ok.test', private: true}
      - {host: ok.test, protocol: http, private: true}
      - {host: ok2.test, private: true}
      - {host: alt.test, private: true}
      - {host: db.test, protocol: tcp, ports: [5432], private: true}
      - {host: db.test, protocol: udp, ports: [9000], private: true}
      - {cidr: 10.99.0.10/32, protocol: tcp, ports: [9000]}
      - {cidr: 10.99.0.10/32, protocol: udp, ports: [9000]}
      - {cidr: 'fd99::10/128', protocol: tcp, ports: [9000]}
      - {cidr: 'fd99::10/128', protocol: udp, ports: [9000]}
";

/// Nothing at all.
pub const EMPTY: &str = "
version: 1
agents:
  default:
    rules: []
";

/// A policy of one agent, `default`, with these rules.
pub fn with(rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("      - {rule}\n")).collect();
    format!("version: 1\nagents:\n  default:\n    rules:\n{rules}")
}

/// [`COMMON`], and these rules.
pub fn common_and(rules: &[&str]) -> String {
    let rules: String = rules.iter().map(|rule| format!("      - {rule}\n")).collect();
    format!("{COMMON}{rules}")
}

/// `policy` with rules for TLS that say which way their flows take; see docs/policy.md, `gate`.
pub fn by_gate(policy: &str, gate: &str) -> String {
    let by_gate = |line: &str| match line.contains("{host:") && !line.contains("protocol:") {
        true => line.replace('}', &format!(", gate: {gate}}}")),
        false => line.to_owned(),
    };
    policy.lines().map(|line| by_gate(line) + "\n").collect()
}

/// As [`with`], with rules that deny.
pub fn with_denied(rules: &[&str], denied: &[&str]) -> String {
    let denied: String = denied.iter().map(|rule| format!("      - {rule}\n")).collect();
    format!("{}    deny:\n{denied}", with(rules))
}
