//! What a plugin logs appears in the host as the host's own.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use nv_perception::{Perception, StageInput, StreamContext, Value};
use nv_plugin_sdk::testing::solid_frame;
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, info_span};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use super::{loaded, stage};

/// Writes down events of the test plugin, each with the spans around it.
#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Vec<String>>>);

/// The fields of a span so far.
struct SpanText(String);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        write!(self.0, " {}={value}i", field.name()).unwrap();
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        write!(self.0, " {}={value}u", field.name()).unwrap();
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notebook {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).unwrap().extensions_mut().insert(SpanText(fields.0));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        context.span(id).unwrap().extensions_mut().get_mut::<SpanText>().unwrap().0.push_str(&fields.0);
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let name = |id| context.span(id).unwrap().name();
        self.0.lock().unwrap().push(format!("{} follows {}", name(id), name(follows)));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = String::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            let text = span.extensions().get::<SpanText>().unwrap().0.clone();
            write!(line, "{}{{{}}} > ", span.name(), text.trim_start()).unwrap();
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let at = event.metadata();
        let file = at.file().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        write!(line, "{} {} {file}{}", at.level(), at.target(), fields.0).unwrap();
        assert!(at.line().is_some_and(|line| line > 0));
        self.0.lock().unwrap().push(line);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let name = context.span(&id).unwrap().name();
        if name == "work" {
            self.0.lock().unwrap().push("work closed".into());
        }
    }
}

/// Builds the logging stage and has it process a frame under spans of the host, listening as `filter` says.
fn log(filter: Targets) -> (Vec<String>, bool) {
    let notebook = Notebook::default();
    let plugin = loaded();
    let subscriber = tracing_subscriber::registry().with(notebook.clone().with_filter(filter));
    let trace_enabled = tracing::subscriber::with_default(subscriber, || {
        let _feed = info_span!("feed", name = "gate").entered();
        let mut stage = info_span!("build").in_scope(|| stage(&plugin, "log", json!({})).unwrap());
        let stream = StreamContext::new("gate".into(), "log".into(), 0);
        let frame = solid_frame(2, 2, [0, 0, 0]);
        let output = stage.process(&StageInput::new(&stream, &frame, &Perception::default())).unwrap();
        output.signals[0].value == Value::Bool(true)
    });
    let notes = notebook.0.lock().unwrap().clone();
    (notes, trace_enabled)
}

fn ours(level: Level) -> Targets {
    Targets::new()
        .with_target("it", LevelFilter::TRACE)
        .with_target("nv_test_plugin", level)
        .with_target("probe", LevelFilter::TRACE)
}

#[test]
fn events_and_spans_are_the_hosts_own() {
    let (notes, trace_enabled) = log(ours(Level::DEBUG));
    let feed = r#"feed{name="gate"}"#;
    let expected = [
        format!("{feed} > build{{}} > INFO nv_test_plugin::log log.rs message=built"),
        format!(
            "{feed} > work{{seq=0u}} > DEBUG nv_test_plugin::log log.rs message=inner 7 signed=-1i unsigned=2u \
             float=0.5 yes=true text=\"a \\\"b\\\"\" shown=plain"
        ),
        "aside follows work".into(),
        "aside{} > WARN nv_test_plugin::log log.rs message=beside".into(),
        format!(
            "{feed} > work{{seq=0u late=42i}} > work{{seq=0u late=42i}} > ERROR probe::special log.rs message=nested"
        ),
        "work closed".into(),
    ];
    // A span that is entered twice is in the scope once.
    let expected = expected.map(|line| line.replacen("work{seq=0u late=42i} > work", "work", 1));
    assert_eq!(notes, expected);
    assert!(!trace_enabled);
}

#[test]
fn the_hosts_filter_counts() {
    let (notes, trace_enabled) = log(ours(Level::WARN));
    let messages: Vec<_> = notes.iter().filter_map(|n| n.split_once("message=")).map(|(_, m)| m).collect();
    assert_eq!(messages, ["beside", "nested"]);
    assert!(!trace_enabled);

    let (notes, trace_enabled) = log(ours(Level::TRACE));
    assert!(notes.iter().any(|n| n.ends_with("message=too fine")), "{notes:#?}");
    assert!(trace_enabled);
}

#[test]
fn threads_keep_their_spans_apart() {
    // While one of them comes and another goes, somebody must be listening: the plugin asks once what is listened to.
    let listening = tracing_subscriber::registry().with(Notebook::default().with_filter(ours(Level::DEBUG)));
    let _listening = tracing::Dispatch::new(listening);
    std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| log(ours(Level::DEBUG)).0)).collect();
        let notes: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        assert!(notes.iter().all(|n| *n == notes[0] && n.len() == 6), "{notes:#?}");
    });
}
