//! `ecumene top`: the running world in a terminal, once a second.

use std::path::Path;
use std::time::Duration;

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Sparkline, Table};

use super::{CallError, call};
use crate::admin::{AdminReply, AdminRequest};
use crate::status::Status;

/// Time between two pictures.
const REFRESH: Duration = Duration::from_secs(1);

/// Something that ends the view.
#[derive(Debug, thiserror::Error)]
pub enum TopError {
    /// The server does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server refuses.
    #[error("{0}")]
    Refused(String),
    /// The terminal does not take or give anything.
    #[error("the terminal cannot be used: {0}; use `ecumene status` instead")]
    Terminal(#[from] std::io::Error),
}

/// Shows the world in folder `data` until `q`, Escape or Ctrl-C is pressed.
///
/// # Errors
/// [`TopError`]; the terminal is as it was before.
pub fn show(data: &Path) -> Result<(), TopError> {
    let mut status = picture(data)?;
    let mut terminal = ratatui::try_init()?;
    let shown = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &status)) {
            break Err(error.into());
        }
        match is_leaving() {
            Ok(false) => {}
            Ok(true) => break Ok(()),
            Err(error) => break Err(error.into()),
        }
        match picture(data) {
            Ok(next) => status = next,
            Err(error) => break Err(error),
        }
    };
    ratatui::try_restore()?;
    shown
}

fn picture(data: &Path) -> Result<Status, TopError> {
    let reply = call(data, AdminRequest::Status, |_| {})?;
    if let AdminReply::Status(status) = reply {
        return Ok(*status);
    }
    let AdminReply::Failed(why) = reply else {
        return Err(TopError::Refused("the server answered something else".to_owned()));
    };
    Err(TopError::Refused(why))
}

/// Waits for the next picture's time, and returns whether a key asked to leave before it.
fn is_leaving() -> std::io::Result<bool> {
    if !event::poll(REFRESH)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else { return Ok(false) };
    let is_interrupt =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    let is_quit = matches!(key.code, KeyCode::Char('q') | KeyCode::Esc);
    Ok(key.kind == KeyEventKind::Press && (is_quit || is_interrupt))
}

/// Draws one picture.
fn draw(frame: &mut Frame<'_>, status: &Status) {
    let rows = Layout::vertical([
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Min(3),
        Constraint::Length(1),
    ]);
    let [head, ticks, shards, foot] = rows.areas(frame.area());
    frame.render_widget(Paragraph::new(lines(status).map(Line::from).to_vec()), head);
    frame.render_widget(tick_line(status), ticks);
    frame.render_widget(shard_table(status), shards);
    frame.render_widget(Paragraph::new("q leaves"), foot);
}

/// Returns what stands above the curves; `ecumene status` prints the same.
#[must_use]
pub fn lines(status: &Status) -> [String; 4] {
    let state = match status.ready {
        true => "ready".to_owned(),
        false => format!("not ready: {}", status.why_not_ready),
    };
    let pace = f64::from(status.pace_permille) / 10.0;
    [
        format!(
            "{}  (ecumene {}, up {} s, {state})",
            status.world, status.version, status.uptime_s
        ),
        format!(
            "clients {} of {}   entities {}",
            status.clients, status.clients_max, status.entities
        ),
        format!("tick {} at {} Hz, pace {pace} %", status.tick, status.hz),
        format!(
            "store durable at {}, {} pending, {} KB on disk",
            status.store.durable,
            status.store.pending,
            status.store.bytes / 1_000,
        ),
    ]
}

fn tick_line(status: &Status) -> Sparkline<'static> {
    // A hundredth of a millisecond is the step of the curve.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    let steps = |ms: &f32| (ms.max(0.0) * 100.0) as u64;
    let steps: Vec<u64> = status.tick_history.iter().map(steps).collect();
    let top = status.tick_history.iter().copied().fold(0.0, f32::max);
    let title = format!("time per tick, highest {top:.2} ms");
    Sparkline::default().block(Block::bordered().title(title)).data(steps)
}

fn shard_table(status: &Status) -> Table<'static> {
    let head = ["shard", "region", "entities", "clients", "ghosts", "step ms", "where"];
    let row = |shard: &crate::status::ShardStatus| {
        Row::new([
            shard.id.clone(),
            shard.region.clone(),
            shard.entities.to_string(),
            shard.clients.to_string(),
            shard.ghosts.to_string(),
            format!("{:.2}", shard.step_ms),
            shard.place.clone(),
        ])
    };
    let widths = [10, 34, 9, 8, 7, 8, 16].map(Constraint::Length);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Table::new(status.shards.iter().map(row), widths)
        .header(Row::new(head).style(bold))
        .block(Block::bordered().title("shards"))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::status::ShardStatus;

    #[test]
    fn the_view_shows_world_ticks_and_shards_even_in_a_tiny_terminal() {
        let shard = ShardStatus { id: "r-1".to_owned(), entities: 321, ..ShardStatus::default() };
        let status = Status {
            world: "home".to_owned(),
            clients: 12,
            clients_max: 100,
            tick_history: vec![1.0, 2.5],
            shards: vec![shard],
            ready: true,
            ..Status::default()
        };
        let drawn = |width, height| {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(frame, &status)).unwrap();
            terminal.backend().to_string()
        };
        let picture = drawn(100, 20);
        for part in ["home", "clients 12 of 100", "highest 2.50 ms", "r-1", "321", "q leaves"] {
            assert!(picture.contains(part), "{part} is missing in\n{picture}");
        }
        drawn(1, 1);
    }
}
