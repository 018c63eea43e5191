//! Draws the page: jobs with their bars, the chosen one with its failures, workers with what they
//! do. Words say everything that colors say.

use quire_proto::v1::{Job, JobState};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span as Words};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::super::table::{backlog_text, failed, percent};
use super::state::{Change, Page};
use super::workers;
use crate::fleet::{backlog, pages_done, shard_states, share, shown, state_name};
use crate::output::{counted, grouped, rate, shortened};
use crate::settings::Span;

/// From this width on, job and workers stand beside each other.
const WIDE: u16 = 130;
/// Without the frame and the header.
const MOST_JOBS_SHOWN: u16 = 12;

/// Draws the page.
pub(super) fn page(frame: &mut Frame<'_>, page: &Page) {
    let area = frame.area();
    let n_jobs = u16::try_from(page.look.jobs.len()).unwrap_or(u16::MAX);
    let jobs_height = n_jobs.clamp(1, MOST_JOBS_SHOWN.min(area.height / 4).max(1)) + 3;
    let rows = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(jobs_height),
        Constraint::Min(3),
        Constraint::Length(1),
    ]);
    let [head, jobs, rest, foot] = rows.areas(area);
    draw_head(frame, head, page);
    draw_jobs(frame, jobs, page);
    if area.width >= WIDE {
        let columns = Layout::horizontal([Constraint::Percentage(45), Constraint::Percentage(55)]);
        let [left, right] = columns.areas(rest);
        draw_job(frame, left, page);
        workers::draw(frame, right, page);
    } else {
        let height = job_lines(page, rest.width).len();
        let height = u16::try_from(height).unwrap_or(u16::MAX).saturating_add(2);
        let height = height.min((rest.height / 2).max(3));
        let [above, below] =
            Layout::vertical([Constraint::Length(height), Constraint::Min(0)]).areas(rest);
        draw_job(frame, above, page);
        workers::draw(frame, below, page);
    }
    draw_foot(frame, foot, page);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, page: &Page) {
    let all: Vec<&Job> = page.look.jobs.iter().collect();
    let open = all.iter().filter(|job| !job.state().is_final()).count();
    let left = backlog(&all, page.look.workers());
    let facts = [
        counted(open as u64, "open job", "open jobs"),
        format!("{} pages/s", rate(page.rates.total())),
        format!("backlog {}", backlog_text(&left)),
    ];
    let state = match &page.lost {
        Some(_) => Line::from(" away: this is how it was ")
            .fg(Color::Red)
            .bold(),
        None => Line::from(format!(" {} ", who_is_there(page))),
    };
    let title = Line::from(vec![
        Words::from(" Quire ").bold().reversed(),
        Words::from(format!("  {}", page.url)),
    ]);
    let [above, below] =
        Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(Paragraph::new(title), above);
    let width = u16::try_from(state.width()).unwrap_or(u16::MAX);
    let width = width.min(above.width);
    let right = Rect {
        x: above.right() - width,
        width,
        ..above
    };
    frame.render_widget(Paragraph::new(state), right);
    let facts = Line::from(format!(" {}", facts.join(" · ")));
    frame.render_widget(Paragraph::new(facts), below);
}

fn who_is_there(page: &Page) -> String {
    let Ok(found) = &page.look.workers else {
        return String::new();
    };
    let mut nodes: Vec<&str> = found.iter().map(|worker| worker.node.as_str()).collect();
    nodes.dedup();
    let workers = counted(found.len() as u64, "worker", "workers");
    let nodes = counted(nodes.len() as u64, "node", "nodes");
    format!("{workers} on {nodes}")
}

/// A frame with a name.
pub(super) fn framed(title: impl Into<String>) -> Block<'static> {
    Block::bordered()
        .border_style(Style::new().fg(Color::DarkGray))
        .title(Words::from(format!(" {} ", title.into())).bold().reset())
}

fn draw_jobs(frame: &mut Frame<'_>, area: Rect, page: &Page) {
    let block = framed("Jobs");
    if page.look.jobs.is_empty() {
        let hint = " There are no jobs. `quire submit` gives the fleet one.";
        frame.render_widget(Paragraph::new(hint).block(block), area);
        return;
    }
    // The chosen job is in sight, whatever there is above it.
    let shown = usize::from(area.height.saturating_sub(3)).max(1);
    let chosen = page.chosen_at().unwrap_or(0);
    let first = (chosen + 1).saturating_sub(shown);
    let bar_width = bar_width(area.width);
    let rows = page.look.jobs.iter().enumerate().skip(first).take(shown);
    let rows = rows.map(|(at, job)| job_row(page, job, at == chosen, bar_width));
    let widths = [
        Constraint::Length(16),
        Constraint::Length(9),
        Constraint::Length(u16::try_from(bar_width).unwrap_or(8)),
        Constraint::Length(4),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Fill(1),
    ];
    let names = [
        "  JOB", "STATE", "DONE", "", "PAGES/S", "LEFT", "FAILED", "TENANT",
    ];
    let header = names.iter().enumerate().map(|(at, name)| match at {
        4..=6 => Cell::from(Line::from(*name).right_aligned()),
        _ => Cell::from(*name),
    });
    let header = Row::new(header).style(Style::new().fg(Color::DarkGray));
    let table = Table::new(rows, widths).header(header).block(block);
    frame.render_widget(table, area);
}

/// What the other columns leave.
fn bar_width(width: u16) -> usize {
    usize::from(width.saturating_sub(69)).clamp(6, 60)
}

fn job_row(page: &Page, job: &Job, is_chosen: bool, bar_width: usize) -> Row<'static> {
    let mark = if is_chosen { "▸ " } else { "  " };
    let color = color_of(job.state());
    let pace = match job.state() {
        JobState::Running => page.rates.of(job),
        _ => None,
    };
    let pace = pace.map_or_else(|| "-".to_owned(), rate);
    let left = page.rates.eta(job);
    let left = left.map_or_else(|| "-".to_owned(), |eta| Span(eta).to_string());
    let (bar, done) = match share(job) {
        Some(share) => (bar(share, bar_width), format!("{:>4}", percent(share))),
        None if job.rows_planned > 0 => (
            format!("{} found", grouped(job.rows_planned)),
            String::new(),
        ),
        None => (String::new(), String::new()),
    };
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    let failed = failed(job);
    let failed_style = if failed > 0 {
        Style::new().fg(Color::Red)
    } else {
        Style::new()
    };
    let row = Row::new(vec![
        Cell::from(format!("{mark}{}", job.job_id)),
        Cell::from(state_name(job.state())).style(Style::new().fg(color)),
        Cell::from(bar).style(Style::new().fg(color)),
        Cell::from(done),
        right(pace),
        right(left),
        right(grouped(failed)).style(failed_style),
        Cell::from(job.tenant.clone()),
    ]);
    if is_chosen {
        row.style(Style::new().add_modifier(Modifier::BOLD))
    } else {
        row
    }
}

fn color_of(state: JobState) -> Color {
    match state {
        JobState::Planning | JobState::Finishing => Color::Cyan,
        JobState::Running => Color::Green,
        JobState::Paused | JobState::Canceling => Color::Yellow,
        JobState::Failed => Color::Red,
        JobState::Done => Color::Blue,
        JobState::Canceled | JobState::Unspecified => Color::DarkGray,
    }
}

/// Eighths of a character make small steps seen; it is full only when all is done.
pub(super) fn bar(share: f64, chars: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (chars * 8) as f64).floor() as usize;
    let full = (eighths / 8).min(chars);
    let part = if full < chars { PARTS[eighths % 8] } else { "" };
    let empty = chars - full - usize::from(!part.is_empty());
    format!("{}{part}{}", "█".repeat(full), "░".repeat(empty))
}

fn draw_job(frame: &mut Frame<'_>, area: Rect, page: &Page) {
    let title = page.chosen_job().map_or("Job".to_owned(), |job| {
        let version = match job.sealed_version {
            0 => String::new(),
            version => format!(" version {version}"),
        };
        let title = format!("{} → {}{version}", job.job_id, shown(&job.out));
        shortened(&title, usize::from(area.width.saturating_sub(6)))
    });
    let lines = job_lines(page, area.width);
    frame.render_widget(Paragraph::new(lines).block(framed(title)), area);
}

/// The chosen job, one fact a line.
fn job_lines(page: &Page, width: u16) -> Vec<Line<'static>> {
    let Some(job) = page.chosen_job() else {
        return Vec::new();
    };
    let room = usize::from(width.saturating_sub(4));
    let mut lines = Vec::new();
    let mut add = |text: String, style: Style| {
        let text = shortened(&text, room);
        lines.push(Line::from(Words::styled(format!(" {text}"), style)));
    };
    if !job.state_reason.is_empty() {
        let color = color_of(job.state());
        add(job.state_reason.clone(), Style::new().fg(color).bold());
    }
    add(pages_line(job), Style::new());
    let shards = shards_line(job);
    let bare = shards.trim_start_matches("shards: ");
    match shards.chars().count() {
        0 => {}
        chars if chars > room => add(bare.to_owned(), Style::new()),
        _ => add(shards, Style::new()),
    }
    let widest = job.failures.iter().map(|failure| failure.code.len()).max();
    let widest = widest.unwrap_or(0);
    for failure in &job.failures {
        let (code, count) = (&failure.code, grouped(failure.count));
        let text = format!("{code:<widest$} {count:>7}  ");
        let example = shortened(&failure.example, room.saturating_sub(text.chars().count()));
        lines.push(Line::from(vec![
            Words::from(format!(" {text}")).fg(Color::Red),
            Words::from(example).fg(Color::DarkGray),
        ]));
    }
    lines
}

fn pages_line(job: &Job) -> String {
    if job.state() == JobState::Planning {
        let planning = job.planning.unwrap_or_default();
        return format!(
            "{} of {} inputs opened, {} documents, {} pages found",
            grouped(planning.entries_surveyed),
            grouped(planning.entries_listed),
            grouped(job.documents_planned),
            grouped(job.rows_planned),
        );
    }
    let mut text = format!(
        "{} of {} pages of {}",
        grouped(pages_done(job)),
        grouped(job.rows_planned),
        counted(job.documents_planned, "document", "documents"),
    );
    if job.rows_in_flight > 0 {
        text.push_str(&format!(", {} in hand", grouped(job.rows_in_flight)));
    }
    if job.rows_quarantined > 0 {
        text.push_str(&format!(", {} given up", grouped(job.rows_quarantined)));
    }
    text
}

fn shards_line(job: &Job) -> String {
    match shard_states(job) {
        states if states.is_empty() => states,
        states => format!("shards: {states}"),
    }
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, page: &Page) {
    let question = |what: &str, job_id: &str| {
        Line::from(format!(" {what} {job_id}? y yes, any other key no "))
            .bold()
            .reversed()
    };
    let line = match (&page.question, &page.lost, &page.said) {
        (Some(Change::Pause(job_id)), _, _) => question("Pause", job_id),
        (Some(Change::Resume(job_id)), _, _) => question("Go on with", job_id),
        (None, Some(why), _) => Line::from(format!(" {why}")).fg(Color::Red),
        (None, None, Some(said)) => Line::from(format!(" {said}")).bold(),
        (None, None, None) => {
            let pause = match page.chosen_job().map(Job::state) {
                Some(JobState::Paused | JobState::Failed) => "p resume",
                _ => "p pause",
            };
            let keys = format!(" q quit   ↑↓ choose a job   {pause}   PgUp PgDn workers");
            Line::from(keys).fg(Color::DarkGray)
        }
    };
    frame.render_widget(Paragraph::new(line), area);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::super::examples;
    use super::super::input::Key;
    use super::*;
    use crate::fleet::Look;

    fn drawn(state: &Page, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| page(frame, state)).unwrap();
        terminal.backend().to_string()
    }

    fn example() -> Page {
        let mut page = Page::new("https://coordinator.example.org:7420".into());
        page.see(Duration::ZERO, examples::look());
        page
    }

    #[test]
    fn page_fits_a_small_terminal() {
        insta::assert_snapshot!(drawn(&example(), 80, 24));
    }

    #[test]
    fn page_uses_a_wide_terminal() {
        insta::assert_snapshot!(drawn(&example(), 160, 40));
    }

    #[test]
    fn paused_job_says_why_and_the_page_asks_before_it_goes_on() {
        let mut page = example();
        page.press(Key::Down);
        page.press(Key::Down);
        page.press(Key::Pause);
        insta::assert_snapshot!(drawn(&page, 80, 24));
    }

    #[test]
    fn coordinator_that_is_away_is_told_beside_what_was_seen_last() {
        let mut page = example();
        page.lose("no coordinator answers".into());
        let drawn = drawn(&page, 100, 30);
        assert!(drawn.contains("away: this is how it was"), "{drawn}");
        assert!(drawn.contains("no coordinator answers"), "{drawn}");
        assert!(drawn.contains("j-5f0c1d2e3a4b"), "{drawn}");
    }

    #[test]
    fn fleet_without_jobs_or_workers_is_drawn() {
        let mut page = Page::new("http://127.0.0.1:7420".into());
        let nothing = Look {
            jobs: Vec::new(),
            workers: Err("role missing".into()),
            at_ms: 0,
        };
        page.see(Duration::ZERO, nothing);
        insta::assert_snapshot!(drawn(&page, 80, 24));
    }

    #[test]
    fn no_size_is_too_small_to_draw() {
        for (width, height) in [(1, 1), (10, 3), (20, 6), (40, 10), (79, 9), (300, 5)] {
            drawn(&example(), width, height);
        }
    }

    #[test]
    fn many_jobs_and_workers_leave_room_for_one_another() {
        let mut look = examples::look();
        for number in 0..40 {
            let mut job = examples::running();
            job.job_id = format!("j-{number:012x}");
            look.jobs.push(job);
        }
        let workers = look.workers.as_mut().unwrap();
        for number in 0..40 {
            let mut worker = workers[0].clone();
            worker.worker_name = format!("w-{number}");
            workers.push(worker);
        }
        let mut page = Page::new("https://coordinator.example.org:7420".into());
        page.see(Duration::ZERO, look);
        for _ in 0..20 {
            page.press(Key::Down);
        }
        page.press(Key::PageDown);
        insta::assert_snapshot!(drawn(&page, 100, 30));
    }

    #[test]
    fn bar_grows_by_eighths() {
        assert_eq!(bar(0.0, 4), "░░░░");
        assert_eq!(bar(0.3, 4), "█▏░░");
        assert_eq!(bar(0.9999, 4), "███▉");
        assert_eq!(bar(1.0, 4), "████");
    }
}
