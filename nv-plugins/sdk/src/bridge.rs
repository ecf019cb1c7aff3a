//! The plugin's half of the log bridge: a `tracing` subscriber, the default of this library alone, that passes everything on
//! to the host. The host makes real callsites, events and spans of it, so its filters and formats apply.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::{OnceLock, PoisonError, RwLock};

use nv_plugin_abi::abi_stable::std_types::{RSlice, RStr};
use nv_plugin_abi::{HostApi_Ref, LogCallsite, LogField, LogFieldKind, LogLevel, LogParent};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Current, Id, Record};
use tracing_core::{Dispatch, Event, Interest, Level, Metadata, Subscriber, dispatcher};

/// Sends this library's events and spans to `host` from here on. Only the first host counts.
pub(crate) fn install(host: HostApi_Ref) {
    static HOST: OnceLock<HostApi_Ref> = OnceLock::new();
    if HOST.set(host).is_ok() {
        // Fails only where the plugin's code has set a default of its own; then that is what it wants.
        let _ = dispatcher::set_global_default(Dispatch::new(Bridge {
            host,
            callsites: RwLock::default(),
            spans: RwLock::default(),
        }));
    }
}

thread_local! {
    /// The spans that this thread is in, outermost first. The host knows them too, but `Span::current` wants our metadata.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Bridge {
    host: HostApi_Ref,
    /// The host's number of each callsite, by the address of its metadata.
    callsites: RwLock<HashMap<usize, u64, BuildHasherDefault<AddressHasher>>>,
    /// Open spans, by the host's number.
    spans: RwLock<HashMap<u64, OpenSpan>>,
}

struct OpenSpan {
    metadata: &'static Metadata<'static>,
    handles: usize,
}

/// A span that the host could not open. It is in no table, so all that is done with it comes to nothing.
const NO_SPAN: u64 = u64::MAX - 1;

impl Bridge {
    fn callsite(&self, metadata: &'static Metadata<'static>) -> u64 {
        if let Some(number) = self.known_callsite(metadata) {
            return number;
        }
        let fields: Vec<RStr<'_>> = metadata.fields().iter().map(|f| RStr::from_str(f.name())).collect();
        let number = (self.host.log_register())(&LogCallsite {
            name: metadata.name().into(),
            target: metadata.target().into(),
            file: metadata.file().unwrap_or_default().into(),
            module: metadata.module_path().unwrap_or_default().into(),
            line: metadata.line().unwrap_or_default(),
            level: level(*metadata.level()),
            is_span: metadata.is_span(),
            fields: RSlice::from_slice(&fields),
        });
        let mut callsites = self.callsites.write().unwrap_or_else(PoisonError::into_inner);
        *callsites.entry(address(metadata)).or_insert(number)
    }

    fn known_callsite(&self, metadata: &Metadata<'_>) -> Option<u64> {
        self.callsites.read().unwrap_or_else(PoisonError::into_inner).get(&address(metadata)).copied()
    }

    fn is_open(&self, span: u64) -> bool {
        self.spans.read().unwrap_or_else(PoisonError::into_inner).contains_key(&span)
    }
}

impl Subscriber for Bridge {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        self.callsite(metadata);
        // The host's filter may change at any time, and only the host knows: ask each time. That is one call.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // One that another thread is just registering is not known yet; whether it is listened to is asked again when it
        // is, before anything of it is sent.
        self.known_callsite(metadata).is_none_or(|number| (self.host.log_enabled())(number))
    }

    fn event(&self, event: &Event<'_>) {
        let callsite = self.callsite(event.metadata());
        if !(self.host.log_enabled())(callsite) {
            return;
        }
        let parent = parent(event.is_contextual(), event.parent());
        let mut fields = Fields::default();
        event.record(&mut fields);
        fields.lend(|fields| (self.host.log_event())(callsite, parent, fields));
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let metadata = attributes.metadata();
        let callsite = self.callsite(metadata);
        let parent = parent(attributes.is_contextual(), attributes.parent());
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let number = match (self.host.log_enabled())(callsite) {
            true => fields.lend(|fields| (self.host.span_new())(callsite, parent, fields)),
            false => 0,
        };
        if number == 0 {
            return Id::from_u64(NO_SPAN);
        }
        let mut spans = self.spans.write().unwrap_or_else(PoisonError::into_inner);
        spans.insert(number, OpenSpan { metadata, handles: 1 });
        Id::from_u64(number)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        fields.lend(|fields| (self.host.span_record())(span.into_u64(), fields));
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        (self.host.span_follows())(span.into_u64(), follows.into_u64());
    }

    fn enter(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
        (self.host.span_enter())(span.into_u64());
    }

    fn exit(&self, span: &Id) {
        ENTERED.with_borrow_mut(|entered| {
            // Mostly the last, but guards may be dropped in any order.
            if let Some(at) = entered.iter().rposition(|number| *number == span.into_u64()) {
                entered.remove(at);
            }
        });
        (self.host.span_exit())(span.into_u64());
    }

    fn clone_span(&self, span: &Id) -> Id {
        let mut spans = self.spans.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = spans.get_mut(&span.into_u64()) {
            open.handles += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let mut spans = self.spans.write().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = spans.get_mut(&span.into_u64()) else { return false };
        open.handles -= 1;
        if open.handles > 0 {
            return false;
        }
        spans.remove(&span.into_u64());
        drop(spans);
        (self.host.span_close())(span.into_u64());
        true
    }

    fn current_span(&self) -> Current {
        let last = ENTERED.with_borrow(|entered| entered.iter().rev().copied().find(|number| self.is_open(*number)));
        let spans = self.spans.read().unwrap_or_else(PoisonError::into_inner);
        match last.and_then(|number| spans.get(&number).map(|open| (number, open.metadata))) {
            Some((number, metadata)) => Current::new(Id::from_u64(number), metadata),
            None => Current::none(),
        }
    }
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::ERROR,
        Level::WARN => LogLevel::WARN,
        Level::INFO => LogLevel::INFO,
        Level::DEBUG => LogLevel::DEBUG,
        Level::TRACE => LogLevel::TRACE,
    }
}

fn parent(contextual: bool, parent: Option<&Id>) -> LogParent {
    match parent {
        Some(span) => LogParent(span.into_u64()),
        None if contextual => LogParent::CONTEXT,
        None => LogParent::ROOT,
    }
}

fn address(metadata: &Metadata<'_>) -> usize {
    std::ptr::from_ref(metadata).addr()
}

/// The fields of one event or span, collected: texts in one buffer, since a formatted value has no place of its own.
#[derive(Default)]
struct Fields {
    text: String,
    values: Vec<(u32, LogFieldKind, u64, Range<usize>)>,
}

impl Fields {
    fn lend<R>(&self, f: impl FnOnce(RSlice<'_, LogField<'_>>) -> R) -> R {
        let fields: Vec<_> = self
            .values
            .iter()
            .map(|(index, kind, bits, range)| LogField {
                index: *index,
                kind: *kind,
                bits: *bits,
                text: RStr::from_str(&self.text[range.clone()]),
            })
            .collect();
        f(RSlice::from_slice(&fields))
    }

    fn number(&mut self, field: &Field, kind: LogFieldKind, bits: u64) {
        self.values.push((field.index() as u32, kind, bits, 0..0));
    }

    fn text(&mut self, field: &Field, kind: LogFieldKind, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        self.values.push((field.index() as u32, kind, 0, start..self.text.len()));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // A value whose formatting fails is worth what it wrote until then.
        self.text(field, LogFieldKind::FORMATTED, |text| _ = write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, LogFieldKind::TEXT, |text| text.push_str(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, LogFieldKind::I64, value.cast_unsigned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, LogFieldKind::U64, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.number(field, LogFieldKind::F64, value.to_bits());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, LogFieldKind::BOOL, u64::from(value));
    }
}

/// Hashes an address: spreads its low bits, which are all that tells statics apart. Asked for every disabled event, so it must
/// cost next to nothing.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, value: usize) {
        // Fibonacci hashing: Knuth, The Art of Computer Programming, vol. 3, section 6.4.
        self.0 = (self.0 ^ value as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
