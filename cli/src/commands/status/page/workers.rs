//! The part of the page that shows workers: one line a shard that they hold, with how far it is.

use quire_proto::v1::{HeldLease, LeaseStage, Worker};
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table};

use super::draw::{bar, framed};
use super::state::Page;
use crate::fleet::{stage_name, worker_state};
use crate::output::grouped;
use crate::settings::Span;

const BAR_CHARS: usize = 8;
/// From this width on, long names have room.
const ROOMY: u16 = 100;

/// Draws the workers.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, page: &Page) {
    let workers = match &page.look.workers {
        Ok(workers) => workers,
        Err(_) => {
            let why = " Workers are for admins to see.";
            frame.render_widget(Paragraph::new(why).block(framed("Workers")), area);
            return;
        }
    };
    if workers.is_empty() {
        let hint = " No worker is there: `quire worker` starts one, and it takes shards by itself.";
        let hint = Paragraph::new(hint).fg(Color::Yellow);
        frame.render_widget(hint.block(framed("Workers")), area);
        return;
    }
    let lines: Vec<Row<'_>> = workers
        .iter()
        .flat_map(|worker| rows(worker, page.look.at_ms))
        .collect();
    let room = usize::from(area.height.saturating_sub(3));
    let first = page.scrolled.min(lines.len().saturating_sub(room));
    let title = if lines.len() > room {
        let last = (first + room).min(lines.len());
        format!("Workers, lines {} to {last} of {}", first + 1, lines.len())
    } else {
        "Workers".to_owned()
    };
    // What a worker does is worth more than the end of a long name.
    let most = if area.width < ROOMY { 12 } else { 24 };
    let widest = |name: fn(&Worker) -> &str| {
        let names = workers.iter().map(|worker| name(worker).chars().count());
        let widest = names.max().unwrap_or(0).clamp(6, most);
        Constraint::Length(u16::try_from(widest).unwrap_or(24))
    };
    let widths = [
        widest(|worker| &worker.node),
        widest(|worker| &worker.worker_name),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Fill(1),
    ];
    let header = Row::new(["NODE", "WORKER", "STATE", "DOES", "", ""]);
    let header = header.style(Style::new().fg(Color::DarkGray));
    let table = Table::new(lines.into_iter().skip(first).take(room), widths)
        .header(header)
        .block(framed(title));
    frame.render_widget(table, area);
}

/// One line for each shard that a worker holds, or one that says it holds none.
fn rows(worker: &Worker, now_ms: i64) -> Vec<Row<'_>> {
    if worker.leases.is_empty() {
        let mut cells = who(worker, true);
        cells.push(Cell::from("idle").style(Style::new().fg(Color::DarkGray)));
        return vec![Row::new(cells)];
    }
    let leases = worker.leases.iter().enumerate();
    leases
        .map(|(at, lease)| {
            let mut cells = who(worker, at == 0);
            cells.extend(what(lease, now_ms));
            Row::new(cells)
        })
        .collect()
}

/// Node, name and state, on the first line of a worker only.
fn who(worker: &Worker, is_first: bool) -> Vec<Cell<'_>> {
    if !is_first {
        // A default cell spans no column.
        return vec![Cell::from(""), Cell::from(""), Cell::from("")];
    }
    let state = worker_state(worker);
    let color = match state {
        "ready" => Color::Green,
        "unhealthy" => Color::Red,
        _ => Color::Yellow,
    };
    vec![
        Cell::from(worker.node.as_str()),
        Cell::from(worker.worker_name.as_str()),
        Cell::from(state).style(Style::new().fg(color)),
    ]
}

fn what(lease: &HeldLease, now_ms: i64) -> Vec<Cell<'_>> {
    let stage = lease.stage();
    let style = match stage {
        LeaseStage::Queued | LeaseStage::Unspecified => Style::new().fg(Color::DarkGray),
        LeaseStage::Reading => Style::new().fg(Color::Green),
        LeaseStage::Uploading => Style::new().fg(Color::Cyan),
    };
    let share = f64::from(lease.rows_done) / f64::from(lease.n_rows.max(1));
    let held = u64::try_from(now_ms - lease.granted_at_ms).unwrap_or(0);
    let held = Span(std::time::Duration::from_millis(held));
    let copy = if lease.is_copy { " copy" } else { "" };
    let text = format!(
        "{}/{} {held}{copy} #{} {}",
        grouped(u64::from(lease.rows_done)),
        grouped(u64::from(lease.n_rows)),
        lease.shard_idx,
        lease.job_id,
    );
    vec![
        Cell::from(stage_name(stage)).style(style),
        Cell::from(bar(share, BAR_CHARS)).style(style),
        Cell::from(Line::from(text)),
    ]
}
