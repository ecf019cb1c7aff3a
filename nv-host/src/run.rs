use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, never, tick};
use nv_core::{DropReason, HealthEvent};
use nv_runtime::{FeedConfig, FeedEnd, FeedHandle, FeedStats, SinkConfig};
use nv_sources::EmbeddedSources;

use crate::assembly::Assembly;
use crate::config::{FeedPlan, Plan};
use crate::console::Console;
use crate::exit::{Exit, Failure, Result};
use crate::health::{HealthLine, HealthLines};
use crate::plugins::{Plugins, exit_of, with_causes};
use crate::progress::Progress;
use crate::signal;
use crate::sink::{Outputs, Trouble, TroubleSender, write_whole};
use crate::summary::Summary;

/// How long frames that are inside have to leave after Ctrl-C.
const DRAIN: Duration = Duration::from_secs(30);
/// How long after that a feed may take to end, before the process does without it.
const DRAIN_GRACE: Duration = Duration::from_secs(5);
/// How often the progress display is drawn.
const REDRAW: Duration = Duration::from_millis(120);

/// Runs a plan to its end.
pub(crate) fn run(plan: &Plan, plugins: &mut Plugins, console: &Console) -> Result<Exit> {
    let interrupts = signal::listen();
    for warning in &plan.warnings {
        console.warning(warning);
    }
    let mut outputs = Outputs::open(plan)?;
    plugins.load_for(plan)?;
    let decisions = outputs.begin_decisions()?;
    let Assembly { runtime, batches, pipelines } = Assembly::build(plan, plugins, decisions.clone())?;

    let (trouble_sender, trouble) = TroubleSender::channel();
    // Results that scroll over the same terminal show progress enough.
    let show_progress = console.is_terminal() && !(outputs.use_stdout() && std::io::stdout().is_terminal());
    let sinks = outputs.begin(&trouble_sender)?;
    let health = runtime.health();
    let sources = Arc::new(EmbeddedSources::default());
    signal::drain_from_now_on();
    let started = Instant::now();
    let mut feeds = Vec::with_capacity(plan.feeds.len());
    for ((feed, pipeline), sinks) in plan.feeds.iter().zip(pipelines).zip(sinks) {
        let config = FeedConfig::new(feed.name.as_str(), sources.clone(), feed.spec.clone(), pipeline);
        let handle = runtime.add_feed(feed_config(feed, config, sinks));
        feeds.push(handle.map_err(|error| Failure::runtime(error.to_string()))?);
    }
    let progress = show_progress.then(|| {
        let names: Vec<_> = plan.feeds.iter().map(|feed| (feed.name.clone(), feed.frame_limit)).collect();
        Progress::start(console, &names)
    });

    let mut run = Run {
        console,
        running: (0..feeds.len()).collect(),
        feeds,
        interrupts,
        trouble,
        health,
        ticks: if progress.is_some() { tick(REDRAW) } else { never() },
        progress,
        exit: Exit::Done,
        stopping: Stopping::No,
        told: HealthLines::default(),
    };
    run.until_all_have_ended();
    let stats: Vec<FeedStats> = run.feeds.iter().map(FeedHandle::stats).collect();
    let summary = Summary::new(started.elapsed(), &stats, batches.iter().flatten());
    // It tells of the health events that it has held back.
    let report = runtime.shutdown(Duration::ZERO);
    let mut exit = run.finish();
    if !report.abandoned.is_empty() {
        console.warning(&format!("left behind, as they did not end: {}", report.abandoned.join(", ")));
    }
    if let Some(Err(error)) = decisions.map(|log| log.finish()) {
        console.error(&format!("{error}; what was written before that can be replayed"));
        exit = exit.worse(Exit::Runtime);
    }
    // Of a feed that never began, its error says all.
    stats.iter().filter(|stats| stats.frames.received > 0).for_each(|stats| console.note(&told(stats)));
    if let Some(path) = &plan.summary {
        write_whole(path, &summary.to_text())?;
    }
    Ok(exit)
}

fn feed_config(feed: &FeedPlan, config: FeedConfig, sinks: Vec<SinkConfig>) -> FeedConfig {
    FeedConfig {
        sinks,
        queue_capacity: feed.queue_capacity.unwrap_or(config.queue_capacity),
        queue_policy: feed.queue_policy.or(config.queue_policy),
        freshness: feed.freshness.or(config.freshness),
        max_in_pipeline: feed.max_in_pipeline.or(config.max_in_pipeline),
        on_step_error: feed.on_step_error,
        report_threshold: feed.report_threshold,
        provenance: feed.provenance,
        frame_limit: feed.frame_limit,
        weight: feed.weight.unwrap_or(config.weight),
        max_rate: feed.max_rate.or(config.max_rate),
        drop_suspect: feed.drop_suspect,
        stage_timeout: feed.stage_timeout.unwrap_or(config.stage_timeout),
        restart: feed.restart.clone(),
        ..config
    }
}

/// A run in progress: waits for what happens, and decides how it ends.
struct Run<'a> {
    console: &'a Console,
    feeds: Vec<FeedHandle>,
    /// Those that have not ended, as indices.
    running: Vec<usize>,
    interrupts: Receiver<()>,
    trouble: Receiver<Trouble>,
    health: Receiver<HealthEvent>,
    ticks: Receiver<Instant>,
    progress: Option<Progress>,
    exit: Exit,
    stopping: Stopping,
    told: HealthLines,
}

/// Whether the run is being stopped, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// Ctrl-C: until then feeds may finish what is inside them.
    Interrupted(Instant),
    /// Outputs have nowhere to go.
    Outputs,
}

enum Happening {
    Ended(usize),
    Interrupt,
    Trouble(Trouble),
    Health(HealthEvent),
    Tick,
    /// The drain has taken too long.
    Overdue,
}

impl Run<'_> {
    fn until_all_have_ended(&mut self) {
        while !self.running.is_empty() {
            match self.next() {
                Happening::Ended(feed) => self.ended(feed),
                Happening::Interrupt => self.interrupt(),
                Happening::Trouble(trouble) => self.stop_for(trouble),
                Happening::Health(event) => self.tell(&event),
                Happening::Tick => self.progress.iter().for_each(|progress| progress.show(&self.feeds)),
                Happening::Overdue => break,
            }
        }
    }

    /// Waits for the next thing that happens.
    fn next(&mut self) -> Happening {
        let (interrupts, trouble, health) = (self.interrupts.clone(), self.trouble.clone(), self.health.clone());
        let ends: Vec<_> = self.running.iter().map(|&i| self.feeds[i].done().clone()).collect();
        let mut select = Select::new();
        for end in &ends {
            select.recv(end);
        }
        let first = ends.len();
        select.recv(&interrupts);
        select.recv(&trouble);
        select.recv(&health);
        select.recv(&self.ticks);
        let operation = match self.stopping {
            Stopping::Interrupted(deadline) => select.select_deadline(deadline),
            _ => Ok(select.select()),
        };
        let Ok(operation) = operation else { return Happening::Overdue };
        let index = operation.index();
        if index < first {
            // It carries nothing: all that can be received is its end.
            let _ = operation.recv(&ends[index]);
            return Happening::Ended(self.running[index]);
        }
        // A channel whose other end has gone would be ready for ever: nothing more is expected of it.
        match index - first {
            0 => match operation.recv(&interrupts) {
                Ok(()) => return Happening::Interrupt,
                Err(_) => self.interrupts = never(),
            },
            1 => match operation.recv(&trouble) {
                Ok(trouble) => return Happening::Trouble(trouble),
                Err(_) => self.trouble = never(),
            },
            2 => match operation.recv(&health) {
                Ok(event) => return Happening::Health(event),
                Err(_) => self.health = never(),
            },
            _ => {
                let _ = operation.recv(&self.ticks);
            }
        }
        Happening::Tick
    }

    fn ended(&mut self, feed: usize) {
        self.running.retain(|&running| running != feed);
        let stats = self.feeds[feed].stats();
        let end = self.feeds[feed].wait();
        let name = &stats.feed;
        let failure = match &*end {
            FeedEnd::EndOfStream | FeedEnd::LimitReached | FeedEnd::Stopped => None,
            FeedEnd::SourceFailed(error) => {
                let before = match stats.frames.emitted {
                    0 => String::new(),
                    1 => " (1 frame before that was processed)".into(),
                    n => format!(" ({n} frames before that were processed)"),
                };
                Some((Exit::Source, format!("feed {name}: {error}{before}")))
            }
            FeedEnd::RestartLimitExceeded { last, .. } if matches!(**last, FeedEnd::SourceFailed(_)) => {
                Some((Exit::Source, format!("feed {name}: {end}")))
            }
            FeedEnd::StageFailed { step, error } => {
                Some((exit_of(error), format!("feed {name}: step {step}: {}", with_causes(error))))
            }
            other => Some((Exit::Runtime, format!("feed {name}: {other}"))),
        };
        if let Some((exit, message)) = failure {
            // A source that breaks while we stop it has not failed.
            if self.stopping == Stopping::No {
                self.console.error(&message);
                self.exit = self.exit.worse(exit);
            }
        } else if self.stopping == Stopping::No && stats.frames.emitted == 0 && failed_frames(&stats) > 0 {
            let n = failed_frames(&stats);
            self.console.error(&format!("feed {name}: not one of its frames came through: all {n} failed in a step"));
            self.exit = self.exit.worse(Exit::Runtime);
        }
    }

    fn interrupt(&mut self) {
        self.exit = self.exit.worse(Exit::Interrupted);
        if self.stopping != Stopping::No {
            return;
        }
        self.stopping = Stopping::Interrupted(Instant::now() + DRAIN + DRAIN_GRACE);
        self.console.note("stopping: what is on its way is finished first; Ctrl-C again to abort");
        self.stop_feeds(DRAIN);
    }

    fn stop_for(&mut self, trouble: Trouble) {
        if let Trouble::Failed(message) = trouble {
            self.console.error(&message);
            self.exit = self.exit.worse(Exit::Runtime);
        }
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Outputs;
        }
        self.stop_feeds(Duration::ZERO);
    }

    fn stop_feeds(&self, drain: Duration) {
        self.running.iter().for_each(|&feed| self.feeds[feed].stop(drain));
    }

    fn tell(&mut self, event: &HealthEvent) {
        match self.told.tell(event) {
            Some(HealthLine::Warning(line)) => self.console.warning(&line),
            Some(HealthLine::Note(line)) => self.console.note(&line),
            None => {}
        }
    }

    /// What is left to be told, and how it all ended.
    fn finish(&mut self) -> Exit {
        while let Ok(event) = self.health.try_recv() {
            self.tell(&event);
        }
        if let Ok(trouble) = self.trouble.try_recv() {
            self.stop_for(trouble);
        }
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
        self.told.rest().iter().for_each(|line| self.console.warning(line));
        for &feed in &self.running {
            self.console.warning(&format!("feed {} did not end in time", self.feeds[feed].name()));
        }
        self.exit
    }
}

/// Frames that were dropped because a step did not do its work.
fn failed_frames(stats: &FeedStats) -> u64 {
    use DropReason::{ProcessingFailed, StageError, StageHung, StagePanic, Timeout, Unavailable};
    let failed = [ProcessingFailed, StageError, StageHung, StagePanic, Timeout, Unavailable];
    failed.iter().filter_map(|reason| stats.frames.dropped.get(reason)).sum()
}

/// A feed's account, in a line for people.
fn told(stats: &FeedStats) -> String {
    let frames = &stats.frames;
    let unit = if frames.emitted == 1 { "frame" } else { "frames" };
    let mut line = format!("{}: {} {unit} at {:.1} fps", stats.feed, frames.emitted, stats.fps);
    if frames.dropped_total() == 0 {
        line += ", none dropped";
    } else {
        let reasons: Vec<_> = frames.dropped.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
        line += &format!(", {} dropped ({})", frames.dropped_total(), reasons.join(", "));
    }
    if frames.lost_upstream > 0 {
        line += &format!(", {} lost before they came in", frames.lost_upstream);
    }
    for sink in stats.sinks.iter().filter(|sink| sink.failed + sink.passed_by > 0) {
        line += &format!(", {} of them not in {}", sink.failed + sink.passed_by, sink.sink);
    }
    line
}
