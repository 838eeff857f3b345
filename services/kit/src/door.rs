//! The door of a process: while calls crowd before a database, one that would find no place is told so as it arrives,
//! before anything is done for it. What is refused costs what is done: of five times too many calls four are refused.
//!
//! Invariant: it lets nobody in, and refuses only in the name of a tenant that was verified before. Whoever it does not
//! know, and whoever names another tenant than the token, passes to the gate, so that the attempt is seen. What is shed is
//! not judged further: neither its role nor what it asks for.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderMap, Response};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::Error;
use crate::cells::Cells;
use crate::class::Class;
use crate::directory::Directory;
use crate::error::ServiceError as _;
use crate::gate::{bearer, claimed_tenant};
use crate::ids::TenantId;
use crate::telemetry::{self, METRICS, shed_labels};
use crate::token::Verifier;
use crate::turns::Asker;
use crate::usage::{Outcome, USAGE};

/// The same for everybody.
static BUSY: LazyLock<Status> = LazyLock::new(|| Error::Busy.verdict().into_status());

/// The door of one service.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) directory: Directory,
    pub(crate) cells: Cells,
}

/// The doors of a process, by the full names of their gRPC services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(HashMap<&'static str, Door>);

impl Door {
    /// In whose name the call finds no place.
    fn refuses(&self, class: Class, headers: &HeaderMap) -> Option<TenantId> {
        let crowd = &self.cells.shared().pool;
        if !crowd.is_crowded() {
            return None;
        }
        let tenant = self.verifier.remembers(bearer(headers).ok()?)?;
        let is_its_own = claimed_tenant(headers) == Ok(tenant);
        // The platform's operators are not many, and come to help.
        if !is_its_own || tenant == TenantId::PLATFORM || !self.directory.is_active(tenant) {
            return None;
        }
        let is_there = self.directory.placement(tenant)?.cell.is_shared();
        let asker = Asker::of_call(tenant, self.directory.plan(tenant), class);
        (is_there && !crowd.has_place(asker)).then_some(tenant)
    }
}

impl Doors {
    pub(crate) fn add(&mut self, grpc_services: &[&'static str], door: &Door) {
        let each = grpc_services.iter();
        self.0.extend(each.map(|service| (*service, door.clone())));
    }

    /// The answer to a call that is not let pass.
    pub(crate) fn refuse(&self, method: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let (service, _) = method.rsplit_once('/')?;
        let began = Instant::now();
        let class = Class::of(method);
        let tenant = self.0.get(service)?.refuses(class, headers)?;
        METRICS.shed.add(1, &shed_labels("database", class.name()));
        METRICS.rpc_duration.record(
            began.elapsed().as_secs_f64(),
            &telemetry::rpc_attributes(method, Code::ResourceExhausted as i32),
        );
        USAGE.called(tenant, Outcome::Limited, began.elapsed());
        Some(BUSY.clone().into_http())
    }
}
