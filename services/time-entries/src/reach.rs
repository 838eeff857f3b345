//! Whose entries a caller may reach: to the role `consultant` only the own ones exist.

use kit::{Ctx, Tx};

use crate::error::Error;
use crate::reference::ConsultantId;
use crate::store;

/// The consultants whose entries exist for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Those of the whole tenant.
    Everyone,
    /// Those of the consultant that the caller is.
    Only(ConsultantId),
    /// None: the caller is no consultant.
    Nobody,
}

impl Reach {
    /// The reach of the context's actor.
    pub(crate) async fn of(ctx: &Ctx, tx: &mut Tx) -> Result<Self, Error> {
        let Some(subject) = ctx.restricted_to_subject() else {
            return Ok(Self::Everyone);
        };
        let own = store::reference::find_by_subject(tx, subject).await?;
        // Two have the subject only while the events of a handover cross: until then nobody's time is shown.
        Ok(match own.as_slice() {
            [one] => Self::Only(*one),
            _ => Self::Nobody,
        })
    }

    /// Whether entries of the consultant exist for the caller.
    pub(crate) fn covers(self, consultant: ConsultantId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(own) => own == consultant,
            Self::Nobody => false,
        }
    }

    /// The filter on consultants that a wish comes to; an error when no entry can pass it.
    pub(crate) fn narrow(
        self,
        wished: Option<ConsultantId>,
    ) -> Result<Option<ConsultantId>, OutOfReach> {
        match (self, wished) {
            (Self::Everyone, wished) => Ok(wished),
            (Self::Only(own), None) => Ok(Some(own)),
            (reach, Some(wished)) if reach.covers(wished) => Ok(Some(wished)),
            _ => Err(OutOfReach),
        }
    }
}

/// Nothing that was asked for exists for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfReach;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_never_widens_a_reach() {
        let [kim, lee] = [1, 2].map(|id| ConsultantId::new(uuid::Uuid::from_u128(id)));
        assert_eq!(Reach::Everyone.narrow(None), Ok(None));
        assert_eq!(Reach::Everyone.narrow(Some(lee)), Ok(Some(lee)));
        assert_eq!(Reach::Only(kim).narrow(None), Ok(Some(kim)));
        assert_eq!(Reach::Only(kim).narrow(Some(kim)), Ok(Some(kim)));
        assert_eq!(Reach::Only(kim).narrow(Some(lee)), Err(OutOfReach));
        assert_eq!(Reach::Nobody.narrow(None), Err(OutOfReach));
        assert_eq!(Reach::Nobody.narrow(Some(kim)), Err(OutOfReach));
    }
}
