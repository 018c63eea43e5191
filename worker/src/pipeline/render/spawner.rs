//! The thread that starts child processes.
//!
//! On Linux a child asks to be killed when its parent ends, and the kernel takes the parent to be
//! the *thread* that started it. Threads of a runtime come and go, so one thread of the pool's own
//! starts every child and lives as long as the pool.

use std::process::Stdio;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{io, thread};

use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::settings::RenderSettings;

type Started = oneshot::Sender<io::Result<Child>>;

/// Starts child processes; dropping it ends the thread, and with it every child left.
#[derive(Debug)]
pub(super) struct Spawner {
    asks: SyncSender<Started>,
}

impl Spawner {
    /// Starts the thread; must be called within a runtime.
    pub(super) fn new(settings: &RenderSettings) -> io::Result<Self> {
        let (asks, waiting) = sync_channel(settings.children.max(1));
        let (program, args) = (settings.program.clone(), settings.args.clone());
        let runtime = Handle::current();
        thread::Builder::new()
            .name("render-spawner".into())
            .spawn(move || {
                serve(&waiting, &runtime, || {
                    let mut command = Command::new(&program);
                    command.args(&args);
                    command
                });
            })?;
        Ok(Self { asks })
    }

    /// A new process with piped stdin, stdout and stderr and an empty environment.
    pub(super) async fn spawn(&self) -> io::Result<Child> {
        let (started, answer) = oneshot::channel();
        // The channel holds one place for each child of the pool, so this does not block.
        self.asks
            .send(started)
            .map_err(|_| io::Error::other("the spawner has ended"))?;
        answer
            .await
            .map_err(|_| io::Error::other("the spawner has ended"))?
    }
}

fn serve(waiting: &Receiver<Started>, runtime: &Handle, command: impl Fn() -> Command) {
    let _inside = runtime.enter();
    while let Ok(started) = waiting.recv() {
        let child = command()
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Ctrl-C in a terminal goes to the whole group: the parent then finishes what is in
            // hand, and needs its children for that.
            .process_group(0)
            .spawn();
        // Whoever asked may have gone; the child is then dropped, which kills it.
        drop(started.send(child));
    }
}
