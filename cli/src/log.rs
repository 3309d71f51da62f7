//! The log of this process: lines of text, or one JSON object for each event.
//!
//! A thread of its own writes the log. No event waits for a reader, and no event fails because
//! of a full disk or a closed pipe. The log counts lines that cannot be written, and the next line
//! that can be written contains the number.

use crate::error::Error;
use crate::report::{SCHEMA, now};
use serde_json::{Map, Value};
use std::env::VarError;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// The number of lines that wait for a slow reader. Further lines are lost.
const WAITING: usize = 4096;
/// How long the end of the process waits for a slow reader.
const PATIENCE: Duration = Duration::from_secs(1);

/// The destination of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Standard output: the events are the result of the command.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The log, from [`Log::start`] on.
pub struct Log(Lines);

impl Log {
    /// Starts the log of this process. `RUST_LOG` sets the level; `level` is the default.
    ///
    /// # Errors
    ///
    /// If `RUST_LOG` is invalid, or the system cannot start a thread.
    pub fn start(place: Place, level: LevelFilter, json: bool) -> Result<Self, Error> {
        let filter = filter(level)?;
        let lines = match place {
            Place::Stdout => Lines::start(io::stdout, json),
            Place::Stderr => Lines::start(io::stderr, json),
        };
        let lines =
            lines.map_err(|error| Error::plain(format!("cannot start the log: {error}")))?;
        let registry = tracing_subscriber::registry().with(filter);
        if json {
            registry.with(Events(lines.clone())).init();
        } else {
            let writer = lines.clone();
            // tracing-subscriber would print an internal error with a macro that panics if it
            // cannot print.
            let layer = fmt::layer()
                .with_writer(move || writer.clone())
                .with_ansi(has_colours(io::stderr().is_terminal()))
                .log_internal_errors(false);
            registry.with(layer).init();
        }
        Ok(Self(lines))
    }

    /// Waits at most one second until all lines are written.
    pub fn end(self) {
        let (done, wait) = sync_channel(1);
        // A full queue belongs to a reader that does not read, so waiting is useless.
        if self.0.queue.try_send(Message::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(PATIENCE);
        }
    }
}

/// Parses `RUST_LOG`. EnvFilter's lossy parser prints ignored values with a macro that panics.
/// Returns an error that names a valid value.
fn filter(level: LevelFilter) -> Result<EnvFilter, Error> {
    let wrong = |why: String| {
        let remedy =
            "a level would be right (RUST_LOG=debug), or a module's (RUST_LOG=vfio_irq=debug)";
        Error::new(format!("RUST_LOG makes no sense: {why}"), remedy).misunderstood()
    };
    let text = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) => text,
        Err(VarError::NotPresent) => String::new(),
        Err(error @ VarError::NotUnicode(_)) => return Err(wrong(error.to_string())),
    };
    let builder = EnvFilter::builder().with_default_directive(level.into());
    builder.parse(text).map_err(|error| wrong(error.to_string()))
}

/// Returns true if a terminal gets colours: NO_COLOR is empty, and TERM is set and not dumb.
pub fn has_colours(is_terminal: bool) -> bool {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let able = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    is_terminal && wanted && able
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Lines in transit to the thread that writes them.
#[derive(Clone)]
struct Lines {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    fn start<W: Write>(stream: impl Fn() -> W + Send + 'static, json: bool) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let its = Arc::clone(&lost);
        let thread = std::thread::Builder::new().name("log".into());
        // The thread is detached: it may sleep in a write until a reader reads.
        drop(thread.spawn(move || write_all(&waiting, stream, &its, json))?);
        Ok(Self { queue, lost })
    }

    fn send(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_all<W: Write>(
    waiting: &Receiver<Message>,
    stream: impl Fn() -> W,
    lost: &AtomicU64,
    json: bool,
) {
    for message in waiting {
        let line = match message {
            Message::Line(line) => line,
            Message::Flush(done) => {
                let _ = done.try_send(());
                continue;
            }
        };
        let mut stream = stream();
        let before = lost.swap(0, Ordering::Relaxed);
        let text = if before > 0 { [gap(before, json), line].concat() } else { line };
        if stream.write_all(&text).and_then(|()| stream.flush()).is_err() {
            lost.fetch_add(before.saturating_add(1), Ordering::Relaxed);
        }
    }
}

/// Returns the line that replaces lost lines.
fn gap(lost: u64, json: bool) -> Vec<u8> {
    if json {
        let event = "events were lost: they could not be written";
        let mut object = head("warn", event);
        object.insert("lost".to_owned(), lost.into());
        return line(object);
    }
    format!("({lost} lines of this log were lost: they could not be written)\n").into_bytes()
}

/// Events as JSON.
struct Events(Lines);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut object = head(&level, &fields.message);
        object.extend(fields.others);
        self.0.send(line(object));
    }
}

fn head(level: &str, event: &str) -> Map<String, Value> {
    let head: [(&str, Value); 4] = [
        ("schema", SCHEMA.into()),
        ("time", now().into()),
        ("level", level.into()),
        ("event", event.into()),
    ];
    head.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

fn line(object: Map<String, Value>) -> Vec<u8> {
    (Value::Object(object).to_string() + "\n").into_bytes()
}

/// The fields of an event.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.others.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" { self.message = text } else { self.put(field, text) }
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Log, Message, WAITING};
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};

    /// A stream whose writes each return the next result of a channel.
    #[derive(Clone)]
    struct Odd(Arc<Mutex<Receiver<io::Result<()>>>>, Sender<String>);

    impl Write for Odd {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().recv().unwrap_or(Ok(()))?;
            self.1.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn odd(json: bool) -> (Lines, Sender<io::Result<()>>, Receiver<String>) {
        let ((fate, fates), (written, all)) = (channel(), channel());
        let odd = Odd(Arc::new(Mutex::new(fates)), written);
        (Lines::start(move || odd.clone(), json).unwrap(), fate, all)
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (lines, fate, all) = odd(false);
        lines.send(b"one\n".to_vec());
        fate.send(Ok(())).unwrap();
        assert_eq!(all.recv().unwrap(), "one\n");
        for line in ["two\n", "three\n"] {
            fate.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
            lines.send(line.into());
        }
        lines.send(b"four\n".to_vec());
        fate.send(Ok(())).unwrap();
        let said = "(2 lines of this log were lost: they could not be written)\nfour\n";
        assert_eq!(all.recv().unwrap(), said);
    }

    #[test]
    fn a_reader_that_does_not_read_stops_no_thread() {
        let (lines, fate, all) = odd(true);
        // The thread holds the first line, or it still waits with the others.
        (0..WAITING + 2).for_each(|_| lines.send(b"{}\n".to_vec()));
        assert!(lines.queue.try_send(Message::Line(Vec::new())).is_err());
        let begun = std::time::Instant::now();
        Log(lines).end();
        assert!(begun.elapsed() < super::PATIENCE / 2);
        drop(fate);
        let all: Vec<String> = all.iter().collect();
        let told = all.iter().filter(|line| line.contains("\"lost\":")).count();
        assert_eq!((told, all.last().map(String::as_str)), (1, Some("{}\n")));
    }
}
