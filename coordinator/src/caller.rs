//! Who makes a call: the roles and the tenant that an identity stands for. The handle checks
//! both itself, whichever way a call came.

use std::collections::BTreeSet;
use std::fmt;

use crate::error::{Error, Result};

/// Jobs of callers without a tenant belong to this one.
pub const DEFAULT_TENANT: &str = "default";

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Jobs and datasets of its tenant.
    Submitter,
    /// What workers say, and nothing else.
    Worker,
    /// Everything.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: &'static [Self] = &[Self::Submitter, Self::Worker, Self::Admin];

    /// As settings name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submitter => "submitter",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }

    /// The role named `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who makes a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Sees the jobs of this tenant only; `None` sees those of every tenant, and its own are of
    /// [`DEFAULT_TENANT`].
    pub tenant: Option<String>,
    pub roles: BTreeSet<Role>,
}

impl Caller {
    /// Somebody on this machine, or in this process: may do everything.
    pub fn local() -> Self {
        Self {
            tenant: None,
            roles: Role::ALL.iter().copied().collect(),
        }
    }

    /// The tenant of jobs that it submits.
    pub fn tenant(&self) -> &str {
        self.tenant.as_deref().unwrap_or(DEFAULT_TENANT)
    }

    /// Whether it has this role, or one that includes it.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role) || self.roles.contains(&Role::Admin)
    }

    /// Whether it may see what belongs to this tenant.
    pub fn sees(&self, tenant: &str) -> bool {
        self.tenant.as_deref().is_none_or(|own| own == tenant)
    }

    pub(crate) fn require(&self, role: Role) -> Result<()> {
        match self.has(role) {
            true => Ok(()),
            false => Err(Error::RoleMissing { role }),
        }
    }

    /// Refuses what belongs to another tenant. `what` is for people.
    pub(crate) fn require_tenant(&self, tenant: &str, what: &str) -> Result<()> {
        match self.sees(tenant) {
            true => Ok(()),
            false => Err(Error::TenantForeign {
                what: what.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(tenant: Option<&str>, roles: &[Role]) -> Caller {
        Caller {
            tenant: tenant.map(str::to_owned),
            roles: roles.iter().copied().collect(),
        }
    }

    #[test]
    fn admin_may_do_everything_and_worker_only_its_own() {
        for &role in Role::ALL {
            assert!(caller(None, &[Role::Admin]).has(role));
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        let worker = caller(None, &[Role::Worker]);
        assert!(worker.has(Role::Worker) && !worker.has(Role::Submitter));
        assert!(!worker.has(Role::Admin));
        assert!(worker.require(Role::Submitter).is_err());
    }

    #[test]
    fn tenant_sees_its_own_and_nobody_elses() {
        let ours = caller(Some("ours"), &[Role::Submitter]);
        assert!(ours.sees("ours") && !ours.sees(DEFAULT_TENANT));
        let everybody = caller(None, &[Role::Submitter]);
        assert!(everybody.sees("ours"));
        assert_eq!(everybody.tenant(), DEFAULT_TENANT);
    }
}
