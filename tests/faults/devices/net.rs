//! A network that breaks: namespaces joined by cables of our own, and rules inside them that drop, refuse or lose.
//!
//! One namespace is the hub, where servers and their callers run; each node has a cable to it. Ports are carried over
//! the cable from loopback address to loopback address, so that a program in a node has the settings that it would have
//! without a network, and every byte passes where a [`Fault`] can stop it.
//!
//! Invariant: no address, rule or setting outside these namespaces is touched.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use tokio::process::Command;

use super::{PREFIX, is_leftover, own_name, reason, run};

/// Whether this machine permits it, tried once; else why not.
pub(crate) fn available() -> Result<(), String> {
    static TRIED: OnceLock<Result<(), String>> = OnceLock::new();
    let tried = TRIED.get_or_init(|| {
        let build = || {
            run("nft", ["--version"])
                .context("there is no nft (Debian's package is called nftables)")?;
            let network = Network::create(&["a"])?;
            let node = network.node("a")?;
            node.carry_to_hub(1)?;
            node.set(Some(Fault::new(Harm::Lose(50))))
        };
        build().map_err(|error| reason("a broken network", &error))
    });
    tried.clone()
}

/// What happens to the packets between a node and the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Nothing passes, and nobody is told.
    Drop,
    /// Nothing passes from the node to the hub; the other way all does.
    DropToHub,
    /// Nothing passes from the hub to the node; the other way all does.
    DropToNode,
    /// Whoever sends is told that the connection is gone.
    Reset,
    /// So many of a hundred packets are dropped, each way.
    Lose(u8),
}

/// What is done to which packets of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    harm: Harm,
    port: Option<u16>,
}

impl Fault {
    /// Done to every packet.
    pub(crate) const fn new(harm: Harm) -> Self {
        Self { harm, port: None }
    }

    /// Done to the connections of one server alone.
    pub(crate) const fn on_port(harm: Harm, port: u16) -> Self {
        Self {
            harm,
            port: Some(port),
        }
    }

    /// The rules against this fault's packets, for the node with this hub.
    fn rules(self, hub: &str) -> String {
        let ports = match self.port {
            Some(port) => vec![format!("tcp dport {port} "), format!("tcp sport {port} ")],
            None => vec![String::new()],
        };
        let mut rules = String::new();
        // What leaves has its true address already, but not yet its way; what arrives has its way alone.
        let leaves = format!("ip daddr {hub}");
        let arrives = format!("iifname {AT_NODE}");
        for (chain, packets) in [("leave", leaves), ("arrive", arrives)] {
            let verdict = match (self.harm, chain) {
                (Harm::Drop, _) | (Harm::DropToHub, "leave") | (Harm::DropToNode, "arrive") => {
                    "drop".to_owned()
                }
                (Harm::DropToHub | Harm::DropToNode, _) => continue,
                // But not the resets themselves.
                (Harm::Reset, _) => "tcp flags & rst == 0 reject with tcp reset".to_owned(),
                (Harm::Lose(percent), _) => format!("numgen random mod 100 < {percent} drop"),
            };
            for port in &ports {
                let rule = format!("add rule inet fault {chain} {packets} {port}{verdict}\n");
                rules.push_str(&rule);
            }
        }
        rules
    }
}

/// The addresses of all nodes, from which the hub sees them come.
pub(crate) const NODE_ADDRESSES: &str = "10.213.0.0/24";
/// Where `ip netns` keeps them.
const NAMESPACES: &str = "/run/netns";
/// The cable's end in a node.
const AT_NODE: &str = "cable";

/// A hub and its nodes; goes when it is dropped, and ends nothing that runs in it.
#[derive(Debug)]
pub(crate) struct Network {
    name: String,
    nodes: Vec<Node>,
    /// Whether it goes with this value.
    owned: bool,
}

/// One end of a cable, with the programs that run there.
#[derive(Debug)]
pub(crate) struct Node {
    namespace: String,
    hub: String,
    at_hub: String,
    number: u8,
}

impl Network {
    /// Makes a hub and a node of each name, joined by whole cables.
    pub(crate) fn create(nodes: &[&str]) -> anyhow::Result<Self> {
        let mut network = Self::of(own_name(), nodes)?;
        network.owned = true;
        add(&network.name)?;
        for node in &network.nodes {
            node.join()?;
        }
        Ok(network)
    }

    /// The network of this name that another program made with [`Network::create`], and will take away.
    pub(crate) fn of(name: String, nodes: &[&str]) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for (node, number) in nodes.iter().zip(1_u8..) {
            all.push(Node {
                namespace: format!("{name}-{node}"),
                at_hub: format!("cable{number}"),
                hub: name.clone(),
                number,
            });
        }
        if all.len() < nodes.len() || all.len() > 63 {
            bail!("a network has at most 63 nodes");
        }
        Ok(Self {
            name,
            nodes: all,
            owned: false,
        })
    }

    /// Its name, for [`Network::of`].
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The node of a name.
    pub(crate) fn node(&self, name: &str) -> anyhow::Result<&Node> {
        let namespace = format!("{}-{name}", self.name);
        self.nodes
            .iter()
            .find(|node| node.namespace == namespace)
            .with_context(|| format!("the network has no node {name}"))
    }

    /// A command that runs in the hub.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        inside(&self.name, program)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if self.owned {
            for namespace in self.nodes.iter().map(|node| &node.namespace) {
                let _ = run("ip", ["netns", "delete", namespace]);
            }
            let _ = run("ip", ["netns", "delete", &self.name]);
        }
    }
}

impl Node {
    /// A command that runs in the node. The program takes the place of `nsenter`, so its id is the child's.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        inside(&self.namespace, program)
    }

    /// Who connects to this port on the node's loopback address reaches the hub's.
    pub(crate) fn carry_to_hub(&self, port: u16) -> anyhow::Result<()> {
        carry(
            (&self.namespace, &self.node_address()),
            (&self.hub, &self.hub_address()),
            port,
        )
    }

    /// Who connects to this port on the hub's loopback address reaches the node's.
    pub(crate) fn carry_to_node(&self, port: u16) -> anyhow::Result<()> {
        carry(
            (&self.hub, &self.hub_address()),
            (&self.namespace, &self.node_address()),
            port,
        )
    }

    /// Breaks the node's cable in this way, or mends it; takes the place of what was set before, at once.
    pub(crate) fn set(&self, fault: Option<Fault>) -> anyhow::Result<()> {
        self.set_all(fault.as_slice())
    }

    /// As [`Node::set`], with several faults at the same time.
    pub(crate) fn set_all(&self, faults: &[Fault]) -> anyhow::Result<()> {
        let mut rules = String::from(
            "flush chain inet fault leave\n\
             flush chain inet fault arrive\n",
        );
        let hub = self.hub_address();
        rules.extend(faults.iter().map(|fault| fault.rules(&hub)));
        nft(&self.namespace, &rules)
    }

    fn node_address(&self) -> String {
        format!("10.213.0.{}", self.number * 4 + 2)
    }

    fn hub_address(&self) -> String {
        format!("10.213.0.{}", self.number * 4 + 1)
    }

    fn join(&self) -> anyhow::Result<()> {
        let (node, hub, at_hub) = (&self.namespace, &self.hub, &self.at_hub);
        add(node)?;
        run(
            "ip",
            [
                "link", "add", at_hub, "netns", hub, "type", "veth", "peer", "name", AT_NODE,
                "netns", node,
            ],
        )?;
        for (namespace, cable, address) in [
            (hub, at_hub.as_str(), self.hub_address()),
            (node, AT_NODE, self.node_address()),
        ] {
            let address = format!("{address}/30");
            run(
                "ip",
                ["-n", namespace, "address", "add", &address, "dev", cable],
            )?;
            run("ip", ["-n", namespace, "link", "set", cable, "up"])?;
        }
        nft(
            node,
            "add table inet fault\n\
             add chain inet fault leave { type filter hook output priority 0; }\n\
             add chain inet fault arrive { type filter hook input priority 0; }\n",
        )
    }
}

/// Removes the namespaces of programs that were killed.
pub(super) fn sweep() -> anyhow::Result<()> {
    let Ok(namespaces) = Path::new(NAMESPACES).read_dir() else {
        return Ok(());
    };
    for namespace in namespaces {
        let namespace = namespace?.file_name().to_string_lossy().into_owned();
        let network = namespace.split('-').next().unwrap_or_default();
        if network.starts_with(PREFIX) && is_leftover(network) {
            run("ip", ["netns", "delete", &namespace])?;
        }
    }
    Ok(())
}

/// A namespace with a loopback address whose packets may leave over a cable.
fn add(namespace: &str) -> anyhow::Result<()> {
    run("ip", ["netns", "add", namespace])?;
    run("ip", ["-n", namespace, "link", "set", "lo", "up"])?;
    let local = "net.ipv4.conf.all.route_localnet=1";
    run(
        "nsenter",
        [&network_of(namespace), "sysctl", "-q", "-w", local],
    )?;
    // Nothing happens to what no port is carried for.
    nft(
        namespace,
        "add table ip carry\n\
         add chain ip carry sent { type nat hook output priority -100; }\n\
         add chain ip carry received { type nat hook prerouting priority -100; }\n\
         add chain ip carry named { type nat hook postrouting priority 100; }\n\
         add rule ip carry named oifname \"cable*\" ip saddr 127.0.0.1 masquerade\n",
    )
}

/// A port of the loopback address of one namespace becomes that of another, each with its end of the cable.
fn carry(from: (&str, &str), to: (&str, &str), port: u16) -> anyhow::Result<()> {
    let (far, near) = (to.1, from.1);
    nft(
        from.0,
        &format!("add rule ip carry sent ip daddr 127.0.0.1 tcp dport {port} dnat to {far}\n"),
    )?;
    nft(
        to.0,
        &format!(
            "add rule ip carry received ip saddr {near} ip daddr {far} tcp dport {port} dnat to 127.0.0.1\n"
        ),
    )
}

/// All of the rules or none, in a namespace of ours.
fn nft(namespace: &str, rules: &str) -> anyhow::Result<()> {
    run("nsenter", [&network_of(namespace), "nft", rules]).map(drop)
}

/// Unlike `ip netns exec`, `nsenter` leaves the program the mounts of this machine: a copy of them would keep volumes
/// in use.
fn inside(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(network_of(namespace))
        .arg(program)
        .kill_on_drop(true);
    command
}

fn network_of(namespace: &str) -> String {
    format!("--net={NAMESPACES}/{namespace}")
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::time::Duration;

    use tokio::process::Child;

    use super::*;
    use crate::devices::trial::works;

    /// Answers each line with the same line, on one connection after the other.
    const SERVER: &str = "import socket, sys\n\
        listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n\
        print('listens', flush=True)\n\
        while True:\n\
        \x20   peer, _ = listener.accept()\n\
        \x20   while line := peer.recv(99): peer.sendall(line)\n";
    /// Sends so many bytes, each when the last is answered, and says what came of it; the last word is its patience.
    const CALLER: &str = "import socket, sys\n\
        try:\n\
        \x20   server = socket.create_connection(('127.0.0.1', int(sys.argv[1])), int(sys.argv[3]))\n\
        \x20   for i in range(int(sys.argv[2])):\n\
        \x20       server.sendall(b'x'); server.recv(1)\n\
        \x20   print('answered')\n\
        except TimeoutError: print('silence')\n\
        except (ConnectionRefusedError, ConnectionResetError): print('reset')\n";

    async fn serves(mut command: Command, port: u16) -> Child {
        use tokio::io::{AsyncBufReadExt as _, BufReader};
        let mut child = command
            .args(["-c", SERVER, &port.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 runs");
        let output = BufReader::new(child.stdout.as_mut().expect("a pipe"));
        let said = output.lines().next_line().await.expect("its output");
        assert_eq!(said.as_deref(), Some("listens"));
        child
    }

    async fn calls(mut command: Command, port: u16, lines: u32) -> String {
        // Who sends many sends some of them twice.
        let patience = if lines > 3 { "30" } else { "1" };
        let output = command
            .args([
                "-c",
                CALLER,
                &port.to_string(),
                &lines.to_string(),
                patience,
            ])
            .output();
        let output = tokio::time::timeout(Duration::from_mins(1), output).await;
        let output = output.expect("it ends").expect("python3 runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[tokio::test]
    async fn a_cable_carries_ports_both_ways_and_breaks_in_every_way() {
        if !works(&available()) {
            return;
        }
        let network = Network::create(&["service", "other"]).expect("a network");
        let node = network.node("service").expect("a node");
        let other = network.node("other").expect("a node");
        let _hub = serves(network.command("python3"), 7001).await;
        let _second = serves(network.command("python3"), 7002).await;
        let _service = serves(node.command("python3"), 7003).await;
        for port in [7001, 7002] {
            node.carry_to_hub(port).expect("carried");
        }
        node.carry_to_node(7003).expect("carried");
        other.carry_to_hub(7001).expect("carried");

        let up = async |port| calls(node.command("python3"), port, 3).await;
        let down = async || calls(network.command("python3"), 7003, 3).await;
        for (harm, to_hub, to_node) in [
            (None, "answered", "answered"),
            (Some(Harm::Drop), "silence", "silence"),
            (Some(Harm::DropToHub), "silence", "silence"),
            (Some(Harm::DropToNode), "silence", "silence"),
            (Some(Harm::Reset), "reset", "reset"),
            (None, "answered", "answered"),
        ] {
            node.set(harm.map(Fault::new)).expect("set");
            assert_eq!(up(7001).await, to_hub, "{harm:?}");
            assert_eq!(down().await, to_node, "{harm:?}");
            let beside = calls(other.command("python3"), 7001, 1).await;
            assert_eq!(beside, "answered", "{harm:?} harms another node");
        }

        node.set(Some(Fault::on_port(Harm::Drop, 7001)))
            .expect("set");
        assert_eq!(up(7001).await, "silence");
        assert_eq!(up(7002).await, "answered");
        assert_eq!(down().await, "answered");
    }

    #[tokio::test]
    async fn one_way_is_open_when_the_other_is_dropped_and_lost_packets_are_sent_again() {
        if !works(&available()) {
            return;
        }
        let network = Network::create(&["a"]).expect("a network");
        let node = network.node("a").expect("a node");
        let _hub = serves(network.command("python3"), 7001).await;
        node.carry_to_hub(7001).expect("carried");

        node.set(Some(Fault::new(Harm::DropToNode))).expect("set");
        assert_eq!(calls(node.command("python3"), 7001, 1).await, "silence");
        // The hub has heard the node all the same.
        let half_open = ["-Htn", "state", "syn-recv"];
        let heard = network.command("ss").args(half_open).output().await;
        assert!(!heard.expect("ss runs").stdout.is_empty());

        // Two of a hundred, each way: of 500 exchanges not one passes unharmed with a probability of 2 in 10^9.
        node.set(Some(Fault::new(Harm::Lose(2)))).expect("set");
        let since = std::time::Instant::now();
        assert_eq!(calls(node.command("python3"), 7001, 500).await, "answered");
        let with_loss = since.elapsed();
        node.set(None).expect("mended");
        let since = std::time::Instant::now();
        assert_eq!(calls(node.command("python3"), 7001, 500).await, "answered");
        assert!(with_loss > since.elapsed(), "{with_loss:?}");
    }

    #[tokio::test]
    async fn a_network_is_found_by_its_name_and_goes_when_its_maker_drops_it() {
        if !works(&available()) {
            return;
        }
        let network = Network::create(&["a"]).expect("a network");
        let name = network.name().to_owned();
        let same = Network::of(name.clone(), &["a"]).expect("the same");
        same.node("a").expect("a node").set(None).expect("set");
        drop(same);
        assert!(Path::new(NAMESPACES).join(&name).exists());
        drop(network);
        assert!(!Path::new(NAMESPACES).join(&name).exists());
        assert!(!Path::new(NAMESPACES).join(format!("{name}-a")).exists());
    }
}
