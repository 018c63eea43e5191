//! The page that `quire --help` prints: commands in groups, since clap knows none.

/// Commands by what people come for, then the flags of all of them.
pub(super) const TEMPLATE: &str = "\
{about}

{usage-heading} {usage}

On one machine:
  run          Read documents and write a dataset; go on where an earlier run stopped

Datasets:
  verify       Check a dataset against every promise its format makes
  inspect      Show what is in a dataset, or one of its pages
  files        Print the files of the newest version, for readers that take a list
  retry        Read failed pages again: of a dataset, or those that a job gave up
  cancel       Give up a job: the unfinished one of OUT, or one of the fleet
  seal         Write README.md, dataset.json, SHA256SUMS and _SUCCESS of the newest version again
  prune        Remove what no reader needs: files of dropped versions, and parts that were sealed

Jobs of a fleet:
  submit       Give a job to the fleet and print its identifier
  status       Show jobs with their progress; with --watch a page that stays
  pause        Hand out nothing more of a job until it is resumed
  resume       Go on with a job that is paused or has failed

Keeping a fleet:
  coordinator  Serve the jobs of a fleet: plan, hand out shards, publish what is done
  worker       Read shards that a coordinator hands out
  workers      List workers with what they do; drain, cordon or uncordon a node
  tenants      List tenants with their shares of the fleet, or set a share
  recover      Make a new database from what lies beside OUT, after the old one is lost

Checks:
  bench        Measure how fast this machine reads, and where the time goes
  study        Measure how engines and modes read documents whose text is known
  model        Check the checkpoint of a model that you bring
  doctor       Check this machine, a place for datasets, a database, or the way to a coordinator
  settings     Print the settings in force and where each came from

Options:
{options}{after-help}
";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::args::Args;

    #[test]
    fn help_lists_every_command_once_with_its_own_words() {
        let command = Args::command();
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        for sub in visible {
            let line = format!("\n  {:<12} {}\n", sub.get_name(), sub.get_about().unwrap());
            let found = super::TEMPLATE.matches(&line).count();
            assert_eq!(found, 1, "{line}");
        }
        let lines = super::TEMPLATE.lines();
        let commands = lines.filter(|line| line.starts_with("  ")).count();
        let expected = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        assert_eq!(commands, expected.count());
    }
}
