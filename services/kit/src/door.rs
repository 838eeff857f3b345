//! The door of a process: while calls crowd before the shared database, one that would find no place is told so as it
//! arrives, before anything is done for it. What is refused costs what is done: of five times too many calls four are
//! refused.
//!
//! Invariant: it lets nobody in, and refuses only in the name of an active tenant that was verified before. Whoever it does
//! not know, who names another tenant than the token, and whom the method's permission does not allow passes to the gate,
//! so that the attempt is seen. What is shed is not judged further: nobody learns whether what it asks for is there.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use http::{HeaderMap, HeaderValue, Response};
use tonic::body::Body;
use tonic::{Code, Status};

use crate::Error;
use crate::cells::Cells;
use crate::class::Class;
use crate::directory::Directory;
use crate::error::ServiceError as _;
use crate::gate::{bearer, claimed_tenant, is_let_in, token_in};
use crate::ids::TenantId;
use crate::permission::Rpc;
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
    pub(crate) table: &'static [Rpc],
}

/// The doors of a process, by the full names of their gRPC services.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doors(HashMap<&'static str, Door>);

impl Door {
    /// In whose name the call finds no place.
    fn refuses(&self, method: &str, class: Class, headers: &HeaderMap) -> Option<TenantId> {
        let crowd = &self.cells.shared().pool;
        if !crowd.is_crowded() {
            return None;
        }
        let principal = self.verifier.remembers(bearer(headers).ok()?)?;
        let tenant = principal.tenant();
        let rpc = self.table.iter().find(|rpc| rpc.method == method)?;
        let is_sound = claimed_tenant(headers) == Ok(tenant)
            && is_let_in(&principal, rpc)
            && self.directory.is_active(tenant);
        if !is_sound || !self.cells.is_shared_for(tenant) {
            return None;
        }
        let asker = Asker::of_call(tenant, self.directory.plan(tenant), class);
        (!crowd.has_place(asker)).then_some(tenant)
    }
}

impl Doors {
    pub(crate) fn add(&mut self, grpc_services: &[&'static str], door: &Door) {
        let each = grpc_services.iter();
        self.0.extend(each.map(|service| (*service, door.clone())));
    }

    /// Whose call of a method it is, when its token was verified before. Nothing is verified for it.
    pub(crate) fn remembers(&self, method: &str, authorization: &HeaderValue) -> Option<TenantId> {
        let (service, _) = method.rsplit_once('/')?;
        let verifier = &self.0.get(service)?.verifier;
        let principal = verifier.remembers(token_in(authorization).ok()?)?;
        Some(principal.tenant())
    }

    /// The answer to a call that is not let pass.
    pub(crate) fn refuse(&self, method: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let (service, _) = method.rsplit_once('/')?;
        let began = Instant::now();
        let class = Class::of(method);
        let tenant = self.0.get(service)?.refuses(method, class, headers)?;
        METRICS.shed.add(1, &shed_labels("database", class.name()));
        METRICS.rpc_duration.record(
            began.elapsed().as_secs_f64(),
            &telemetry::rpc_attributes(method, Code::ResourceExhausted as i32),
        );
        USAGE.called(tenant, Outcome::Limited, began.elapsed());
        Some(BUSY.clone().into_http())
    }
}
