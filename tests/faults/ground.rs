//! Where the servers and services of a run stand: on volumes, on disks, in networks, where the machine permits them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tokio::process::Command;

use crate::cells::Ground;
use crate::devices::disk::{self, Disk};
use crate::devices::net::{self, Network};
use crate::devices::power::{self, Volume};
use crate::program::Begin;
use crate::stack::Server;

/// Room for the database and its log, and for the streams.
const VOLUME_MIB: u32 = 2_048;
/// In memory, and little, so that it is soon full.
const DISK_MIB: u32 = 384;
/// The services with a network node of their own.
pub(crate) const NODES: [&str; 4] = ["consultants", "projects", "time-entries", "audit"];

/// The devices of a run; they go when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    postgres: Option<Place>,
    nats: Option<Place>,
    pub(crate) network: Option<Network>,
}

/// Where a server keeps its data.
#[derive(Debug)]
enum Place {
    Volume(Volume),
    Disk(Disk),
}

impl Devices {
    /// Makes what the ground needs below `dir`, as far as the machine permits. `network` names the one that this very
    /// program runs in the hub of.
    pub(crate) fn lay(ground: Ground, dir: &Path, network: Option<&str>) -> anyhow::Result<Self> {
        let mut devices = Self::default();
        match ground {
            Ground::Powered if power::available().is_ok() => {
                let volume = || Volume::create(dir, VOLUME_MIB).map(Place::Volume);
                devices.postgres = Some(volume()?);
                devices.nats = Some(volume()?);
            }
            Ground::Disks if disk::available().is_ok() => {
                let disk = || Disk::create(dir, DISK_MIB).map(Place::Disk);
                devices.postgres = Some(disk()?);
                devices.nats = Some(disk()?);
            }
            Ground::Powered | Ground::Disks => {}
            Ground::Network => {
                let name = network.context("this program runs in no network")?;
                devices.network = Some(Network::of(name.to_owned(), &NODES)?);
            }
        }
        for (name, place) in [("postgres", &devices.postgres), ("nats", &devices.nats)] {
            if let Some(place) = place {
                symlink(place.path(), dir.join(name))?;
            }
        }
        Ok(devices)
    }

    /// The volume of a server.
    pub(crate) fn volume(&self, server: Server) -> Option<&Volume> {
        match self.place(server) {
            Some(Place::Volume(volume)) => Some(volume),
            _ => None,
        }
    }

    /// The disk of a server.
    pub(crate) fn disk(&self, server: Server) -> Option<&Disk> {
        match self.place(server) {
            Some(Place::Disk(disk)) => Some(disk),
            _ => None,
        }
    }

    fn place(&self, server: Server) -> Option<&Place> {
        match server {
            Server::Postgres => self.postgres.as_ref(),
            Server::Nats => self.nats.as_ref(),
        }
    }

    /// Lets the first process of a service ask these ports of the hub, and be asked at its own.
    pub(crate) fn carry(&self, service: &str, hub: &[u16], own: &[u16]) -> anyhow::Result<()> {
        let Some(network) = self.network.as_ref().filter(|_| NODES.contains(&service)) else {
            return Ok(());
        };
        let node = network.node(service)?;
        for port in hub {
            node.carry_to_hub(*port)?;
        }
        for port in own {
            node.carry_to_node(*port)?;
        }
        Ok(())
    }

    /// How the first process of a service is begun: in its node, if it has one.
    pub(crate) fn begin(&self, service: &'static str, program: PathBuf) -> Begin {
        let network = self.network.as_ref().filter(|_| NODES.contains(&service));
        match network.map(|network| network.name().to_owned()) {
            None => Box::new(move || Ok(Command::new(&program))),
            Some(name) => Box::new(move || {
                Ok(Network::of(name.clone(), &NODES)?
                    .node(service)?
                    .command(&program))
            }),
        }
    }
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Volume(volume) => volume.path(),
            Self::Disk(disk) => disk.path(),
        }
    }
}

/// Why a ground cannot be had here, if it cannot.
pub(crate) fn missing(ground: Ground) -> Option<String> {
    match ground {
        // All but the power cut itself is done without volumes too.
        Ground::Powered => None,
        Ground::Disks => disk::available().err(),
        Ground::Network => net::available().err(),
    }
}
