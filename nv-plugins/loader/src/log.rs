//! The host's half of the log bridge: callsites, events and spans of plugins become callsites, events and spans of this
//! program, so that its filters and formats apply to them, and its spans are around them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use nv_plugin_abi::{LogCallsite, LogField, LogFieldKind, LogLevel, LogParent};
use tracing_core::callsite::{self, Callsite, Identifier};
use tracing_core::field::{DisplayValue, Field, FieldSet, Value, ValueSet, display};
use tracing_core::metadata::Kind;
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, LevelFilter, Metadata, dispatcher};

/// A callsite of a plugin. Lives for ever, as callsites do, and as plugins do.
struct ForeignCallsite {
    metadata: OnceLock<Metadata<'static>>,
    /// What the subscribers said: 0 never, 1 sometimes, 2 always.
    interest: AtomicU8,
}

impl Callsite for ForeignCallsite {
    fn set_interest(&self, interest: Interest) {
        let interest = if interest.is_never() { 0 } else { 1 + u8::from(interest.is_always()) };
        self.interest.store(interest, Ordering::Relaxed);
    }

    fn metadata(&self) -> &Metadata<'_> {
        self.metadata.get().expect("the metadata is set before the callsite is known to anybody")
    }
}

/// All callsites; the number that a plugin knows is the index and one.
static CALLSITES: RwLock<Vec<&'static ForeignCallsite>> = RwLock::new(Vec::new());

/// A span of a plugin, with the subscriber that made it: another may be the default by the time the span ends.
#[derive(Clone)]
struct ForeignSpan {
    dispatch: Dispatch,
    id: Id,
    metadata: &'static Metadata<'static>,
}

/// Open spans, by the number that the plugin knows.
static SPANS: RwLock<Option<HashMap<u64, ForeignSpan>>> = RwLock::new(None);

pub(crate) fn register(callsite: &LogCallsite<'_>) -> u64 {
    let foreign: &'static ForeignCallsite =
        Box::leak(Box::new(ForeignCallsite { metadata: OnceLock::new(), interest: AtomicU8::new(1) }));
    let names: Vec<&'static str> = callsite.fields.iter().map(|name| leak(name)).collect();
    let level = match callsite.level {
        LogLevel::ERROR => Level::ERROR,
        LogLevel::WARN => Level::WARN,
        LogLevel::INFO => Level::INFO,
        LogLevel::DEBUG => Level::DEBUG,
        _ => Level::TRACE,
    };
    let some = |text: &str| (!text.is_empty()).then(|| leak(text));
    foreign.metadata.get_or_init(|| {
        Metadata::new(
            leak(&callsite.name),
            leak(&callsite.target),
            level,
            some(&callsite.file),
            (callsite.line > 0).then_some(callsite.line),
            some(&callsite.module),
            FieldSet::new(names.leak(), Identifier(foreign)),
            if callsite.is_span { Kind::SPAN } else { Kind::EVENT },
        )
    });
    callsite::register(foreign);
    let mut callsites = CALLSITES.write().unwrap_or_else(PoisonError::into_inner);
    callsites.push(foreign);
    callsites.len() as u64
}

fn leak(text: &str) -> &'static str {
    text.to_owned().leak()
}

fn callsite(number: u64) -> Option<(&'static ForeignCallsite, &'static Metadata<'static>)> {
    let index = usize::try_from(number.checked_sub(1)?).ok()?;
    let callsite = *CALLSITES.read().unwrap_or_else(PoisonError::into_inner).get(index)?;
    Some((callsite, callsite.metadata.get()?))
}

pub(crate) fn enabled(number: u64) -> bool {
    let Some((callsite, metadata)) = callsite(number) else { return false };
    *metadata.level() <= LevelFilter::current()
        && match callsite.interest.load(Ordering::Relaxed) {
            0 => false,
            2 => true,
            _ => dispatcher::get_default(|dispatch| dispatch.enabled(metadata)),
        }
}

pub(crate) fn event(number: u64, parent: LogParent, fields: &[LogField<'_>]) {
    let Some((_, metadata)) = callsite(number) else { return };
    with_values(metadata, fields, |values| match parent {
        LogParent::CONTEXT => dispatcher::get_default(|d| d.event(&Event::new(metadata, values))),
        LogParent::ROOT => dispatcher::get_default(|d| d.event(&Event::new_child_of(None, metadata, values))),
        LogParent(parent) => match span(parent) {
            Some(parent) => parent.dispatch.event(&Event::new_child_of(parent.id.clone(), metadata, values)),
            None => dispatcher::get_default(|d| d.event(&Event::new(metadata, values))),
        },
    });
}

pub(crate) fn new_span(number: u64, parent: LogParent, fields: &[LogField<'_>]) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let Some((_, metadata)) = callsite(number) else { return 0 };
    let open = |dispatch: &Dispatch, attributes: &Attributes<'_>| ForeignSpan {
        dispatch: dispatch.clone(),
        id: dispatch.new_span(attributes),
        metadata,
    };
    let opened = with_values(metadata, fields, |values| match parent {
        LogParent::CONTEXT => dispatcher::get_default(|d| open(d, &Attributes::new(metadata, values))),
        LogParent::ROOT => dispatcher::get_default(|d| open(d, &Attributes::new_root(metadata, values))),
        LogParent(parent) => match span(parent) {
            Some(parent) => open(&parent.dispatch, &Attributes::child_of(parent.id.clone(), metadata, values)),
            None => dispatcher::get_default(|d| open(d, &Attributes::new(metadata, values))),
        },
    });
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut spans = SPANS.write().unwrap_or_else(PoisonError::into_inner);
    spans.get_or_insert_default().insert(number, opened);
    number
}

fn span(number: u64) -> Option<ForeignSpan> {
    SPANS.read().unwrap_or_else(PoisonError::into_inner).as_ref()?.get(&number).cloned()
}

pub(crate) fn record(number: u64, fields: &[LogField<'_>]) {
    let Some(span) = span(number) else { return };
    with_values(span.metadata, fields, |values| span.dispatch.record(&span.id, &Record::new(values)));
}

pub(crate) fn follows(number: u64, follows: u64) {
    if let (Some(span), Some(follows)) = (span(number), span(follows)) {
        span.dispatch.record_follows_from(&span.id, &follows.id);
    }
}

pub(crate) fn enter(number: u64) {
    if let Some(span) = span(number) {
        span.dispatch.enter(&span.id);
    }
}

pub(crate) fn exit(number: u64) {
    if let Some(span) = span(number) {
        span.dispatch.exit(&span.id);
    }
}

pub(crate) fn close(number: u64) {
    let closed = SPANS.write().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|spans| spans.remove(&number));
    if let Some(span) = closed {
        span.dispatch.try_close(span.id);
    }
}

/// A value as `tracing` wants it.
enum Decoded<'a> {
    Formatted(DisplayValue<&'a str>),
    Text(&'a str),
    I64(i64),
    U64(u64),
    F64(f64),
    Bool(bool),
}

impl<'a> Decoded<'a> {
    fn new(field: &LogField<'a>) -> Self {
        match field.kind {
            LogFieldKind::I64 => Self::I64(field.bits.cast_signed()),
            LogFieldKind::U64 => Self::U64(field.bits),
            LogFieldKind::F64 => Self::F64(f64::from_bits(field.bits)),
            LogFieldKind::BOOL => Self::Bool(field.bits != 0),
            LogFieldKind::TEXT => Self::Text(field.text.as_str()),
            // Formatted already: as a text it would be quoted.
            _ => Self::Formatted(display(field.text.as_str())),
        }
    }

    fn value(&self) -> &dyn Value {
        match self {
            Self::Formatted(v) => v,
            Self::Text(v) => v,
            Self::I64(v) => v,
            Self::U64(v) => v,
            Self::F64(v) => v,
            Self::Bool(v) => v,
        }
    }
}

/// `tracing` takes values in arrays only; its macros know no more fields than this.
const MOST_FIELDS: usize = 32;

fn with_values<R>(
    metadata: &'static Metadata<'static>,
    fields: &[LogField<'_>],
    f: impl FnOnce(&ValueSet<'_>) -> R,
) -> R {
    let names: Vec<Field> = metadata.fields().iter().collect();
    let Some(first) = names.first() else { return f(&metadata.fields().value_set(&[])) };
    let decoded: Vec<_> =
        fields.iter().take(MOST_FIELDS).map(|field| (field.index as usize, Decoded::new(field))).collect();
    let mut values: [(&Field, Option<&dyn Value>); MOST_FIELDS] = [(first, None); MOST_FIELDS];
    for (slot, (index, value)) in values.iter_mut().zip(&decoded) {
        if let Some(name) = names.get(*index) {
            *slot = (name, Some(value.value()));
        }
    }
    f(&metadata.fields().value_set(&values))
}
