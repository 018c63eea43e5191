//! `quire tenants`: who has which share of the fleet.

use quire_proto::AdminCalls;
use quire_proto::v1::{ListTenantsRequest, SetTenantRequest, Tenant};
use serde_json::json;

use crate::args::{TenantAction, TenantsArgs};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Fleet, tenant_json};
use crate::output::{self, grouped};

/// Lists tenants, or sets the share of one.
pub(crate) async fn execute(context: &Context, args: TenantsArgs) -> Outcome<()> {
    let fleet = Fleet::connect(context).await?;
    match args.action {
        None => list(context, &fleet).await,
        Some(TenantAction::Set { tenant, weight }) => set(context, &fleet, tenant, weight).await,
    }
}

async fn list(context: &Context, fleet: &Fleet) -> Outcome<()> {
    let response = fleet.client.list_tenants(ListTenantsRequest {}).await;
    let tenants = response.map_err(|error| fleet.refused(error))?.tenants;
    if context.json {
        for tenant in &tenants {
            output::print_json(&tenant_json(tenant))?;
        }
        return Ok(());
    }
    output::print(&table(&tenants))
}

async fn set(context: &Context, fleet: &Fleet, tenant: String, weight: f64) -> Outcome<()> {
    if !(weight.is_finite() && weight > 0.0) {
        return Err(Failure::usage("`--weight` must be more than 0"));
    }
    let request = SetTenantRequest {
        tenant: tenant.clone(),
        weight,
    };
    let response = fleet.client.set_tenant(request).await;
    response.map_err(|error| fleet.refused(error))?;
    if context.json {
        return output::print_json(&json!({ "tenant": tenant, "weight": weight }));
    }
    output::print(&format!("Tenant {tenant} weighs {weight} from now on.\n"))
}

fn table(tenants: &[Tenant]) -> String {
    if tenants.is_empty() {
        return "There are no tenants yet: the first job makes one.\n".to_owned();
    }
    let widest = tenants.iter().map(|tenant| tenant.tenant.chars().count());
    let widest = widest.max().unwrap_or(0).max("TENANT".len());
    let mut text = format!(
        "{:<widest$}  {:>6}  {:>14}  {:>14}\n",
        "TENANT", "WEIGHT", "PAGES LATELY", "PAGES WAITING"
    );
    for tenant in tenants {
        let used = grouped(tenant.used_rows.max(0.0).round() as u64);
        let (name, weight) = (&tenant.tenant, tenant.weight);
        let waiting = grouped(tenant.rows_waiting);
        text.push_str(&format!(
            "{name:<widest$}  {weight:>6}  {used:>14}  {waiting:>14}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_are_listed_with_share_use_and_what_waits() {
        let tenant = |name: &str, weight, used_rows, rows_waiting| Tenant {
            tenant: name.into(),
            weight,
            used_rows,
            rows_waiting,
        };
        let found = table(&[
            tenant("default", 1.0, 1204.6, 0),
            tenant("vision-research", 2.5, 0.0, 1_000_000),
        ]);
        let expected = "\
TENANT           WEIGHT    PAGES LATELY   PAGES WAITING
default               1           1,205               0
vision-research     2.5               0       1,000,000
";
        assert_eq!(found, expected, "\n{found}");
    }
}
