use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use crate::Device;
use crate::gpu::adapter::{self, AdapterDescription, AdapterKind, Found};
use crate::gpu::cache::CacheFile;
use crate::gpu::error::GpuError;
use crate::gpu::pipeline::Kernels;

/// A GPU in use: its device, its one queue, and the kernels compiled for it.
///
/// # Sharing
/// All sessions of a process that use the same adapter share one context; it ends with the last of them. All methods may
/// be called from any thread.
///
/// # Loss
/// A device may be lost at any time. Whatever is done from then on fails with [`GpuError::Lost`], and
/// [`open`](Self::open) gives another context.
#[derive(Debug)]
pub(crate) struct Context {
    description: AdapterDescription,
    device: wgpu::Device,
    queue: wgpu::Queue,
    fate: Arc<Fate>,
    kernels: Kernels,
    cache: Option<CacheFile>,
}

/// What became of a device, as its callbacks tell.
#[derive(Debug, Default)]
struct Fate {
    lost: OnceLock<GpuError>,
    /// The first error that no scope was there for.
    stray: Mutex<Option<GpuError>>,
}

impl Fate {
    fn lose(&self, error: GpuError) {
        // The first reason is the cause of all later ones.
        let _ = self.lost.set(error);
    }
}

/// The contexts in use. Its lock is held while one is opened, so that two sessions don't open two.
static OPEN: Mutex<Contexts> = Mutex::new(Contexts { hardware: Weak::new(), software: Weak::new(), bare: false });

struct Contexts {
    hardware: Weak<Context>,
    software: Weak<Context>,
    /// It was looked for hardware, and there was none: not to be looked for at every session.
    bare: bool,
}

impl Context {
    /// The best adapter for `device`, shared with whoever uses it already; `None` for the CPU. An adapter that gives no
    /// device is passed over for the next.
    ///
    /// # Errors
    /// Where an adapter was demanded: that there is none, and what was looked for; or why none gives a device.
    pub(crate) fn open(device: Device) -> Result<Option<Arc<Self>>, String> {
        if device == Device::Cpu {
            return Ok(None);
        }
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if device == Device::Auto && (open.bare || !adapter::may_have_hardware()) {
            return Ok(None);
        }
        let shared = if device == Device::Software { &mut open.software } else { &mut open.hardware };
        if let Some(context) = shared.upgrade().filter(|context| context.lost().is_none()) {
            return Ok(Some(context));
        }
        let found = adapter::enumerate();
        let descriptions: Vec<_> = found.iter().map(|found| found.description.clone()).collect();
        let candidates = adapter::choose(device, &descriptions)?;
        let mut refusals = Vec::new();
        for i in &candidates {
            match Self::new(&found[*i]) {
                Ok(context) => {
                    let context = Arc::new(context);
                    *shared = Arc::downgrade(&context);
                    return Ok(Some(context));
                }
                Err(refused) => refusals.push(refused.to_string()),
            }
        }
        if device != Device::Auto {
            return Err(refusals.join("; "));
        }
        open.bare = candidates.is_empty();
        Ok(None)
    }

    fn new(found: &Found) -> Result<Self, GpuError> {
        let Found { adapter, description } = found;
        let descriptor = wgpu::DeviceDescriptor {
            required_features: adapter.features() & wanted(description.kind),
            required_limits: adapter.limits(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| GpuError::Refused { adapter: description.name.clone(), reason: error.to_string() })?;
        let fate = Arc::new(Fate::default());
        let told = Arc::clone(&fate);
        device.set_device_lost_callback(move |reason, message| {
            told.lose(GpuError::Lost { reason: loss_text(reason, &message) });
        });
        let told = Arc::clone(&fate);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut stray = told.stray.lock().unwrap_or_else(PoisonError::into_inner);
            stray.get_or_insert_with(|| GpuError::new("the GPU", &error));
        }));
        let cache = CacheFile::open(&device, &adapter.get_info());
        Ok(Self { description: description.clone(), device, queue, fate, kernels: Kernels::default(), cache })
    }

    /// The adapter.
    pub(crate) fn description(&self) -> &AdapterDescription {
        &self.description
    }

    /// The device. Calls that may fail belong into [`scoped`](Self::scoped).
    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.device
    }

    /// The queue.
    pub(crate) fn queue(&self) -> &wgpu::Queue {
        &self.queue
    }

    /// The kernels compiled so far.
    pub(crate) fn kernels(&self) -> &Kernels {
        &self.kernels
    }

    /// Where the driver's compiled pipelines go.
    pub(crate) fn cache(&self) -> Option<&CacheFile> {
        self.cache.as_ref()
    }

    /// Why the device is gone, if it is. It is known at the latest after a wait or a call that failed.
    pub(crate) fn lost(&self) -> Option<&GpuError> {
        self.fate.lost.get()
    }

    /// Does something with the device and takes what wgpu reports of it, on this thread, for its error.
    ///
    /// # Errors
    /// `Lost` where the device is gone, before or by it; else `OutOfMemory` or `Invalid`. `what` says what was done.
    pub(crate) fn scoped<T>(&self, what: &str, call: impl FnOnce() -> T) -> Result<T, GpuError> {
        self.check()?;
        // Innermost last: an error goes to the first scope from within that takes its sort.
        let scopes = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation]
            .map(|filter| self.device.push_error_scope(filter));
        let result = guarded(call);
        let errors: Vec<_> = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop())).collect();
        match (result, errors.first()) {
            (Ok(value), None) => self.check().map(|()| value),
            (Ok(_), Some(error)) => {
                // What fails after a loss fails for all sorts of reasons, and only a poll tells of the loss.
                self.poll();
                self.check()?;
                Err(GpuError::new(what, error))
            }
            (Err(panicked), _) => {
                self.fate.lose(GpuError::Lost { reason: format!("{what}: {panicked}") });
                self.check().and_then(|()| Err(GpuError::Invalid { what: what.into(), reason: panicked }))
            }
        }
    }

    /// A buffer that holds `bytes`, a multiple of four, from the next submission on.
    ///
    /// # Errors
    /// `OutOfMemory`, `Invalid` beyond the adapter's limits, `Lost`.
    pub(crate) fn upload(&self, what: &str, bytes: &[u8], usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, GpuError> {
        let usage = usage | wgpu::BufferUsages::COPY_DST;
        let size = bytes.len() as u64;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.scoped(what, || {
            let buffer = self.device.create_buffer(&descriptor);
            self.queue.write_buffer(&buffer, 0, bytes);
            buffer
        })
    }

    /// Waits until a submission and all before it are done, for at most `limit`, and calls back for what was mapped.
    ///
    /// # Errors
    /// `Lost` where the device is gone, `Hung` where it does not end in time.
    pub(crate) fn wait(&self, submission: &wgpu::SubmissionIndex, limit: Duration) -> Result<(), GpuError> {
        let poll = wgpu::PollType::Wait { submission_index: Some(submission.clone()), timeout: Some(limit) };
        // wgpu panics where the device is lost in the middle of a wait.
        match guarded(|| self.device.poll(poll)) {
            Ok(Ok(_)) => {}
            Ok(Err(wgpu::PollError::Timeout)) => self.fate.lose(GpuError::Hung { limit }),
            Ok(Err(error)) => self.fate.lose(GpuError::Lost { reason: error.to_string() }),
            Err(panicked) => self.fate.lose(GpuError::Lost { reason: panicked }),
        }
        self.check()
    }

    /// Gives the device up, as a reset of the GPU would.
    #[cfg(test)]
    pub(crate) fn destroy(&self) {
        self.device.destroy();
    }

    fn poll(&self) {
        if let Err(panicked) = guarded(|| self.device.poll(wgpu::PollType::Poll)) {
            self.fate.lose(GpuError::Lost { reason: panicked });
        }
    }

    fn check(&self) -> Result<(), GpuError> {
        if let Some(lost) = self.lost() {
            return Err(lost.clone());
        }
        match self.fate.stray.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// What kernels make use of where it is there.
fn wanted(kind: AdapterKind) -> wgpu::Features {
    let all = wgpu::Features::SUBGROUP | wgpu::Features::PIPELINE_CACHE;
    match kind {
        // What loads number by number loads two in a word.
        AdapterKind::Software => all | wgpu::Features::SHADER_INT64,
        _ => all,
    }
}

fn loss_text(reason: wgpu::DeviceLostReason, message: &str) -> String {
    match (reason, message.trim()) {
        (wgpu::DeviceLostReason::Destroyed, _) => "it was given up".into(),
        (_, "") => "its driver does not say why".into(),
        (_, message) => message.to_owned(),
    }
}

/// Calls wgpu, which panics where a driver answers what it takes for impossible.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| panic_text(payload.as_ref()))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.map_or_else(|| "wgpu panicked".into(), |text| format!("wgpu panicked: {}", super::error::one_line(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::testing::context;

    /// Longer than anything here takes on a busy machine.
    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn the_cpu_needs_no_context() {
        assert!(Context::open(Device::Cpu).unwrap().is_none());
    }

    #[test]
    fn sessions_share_a_context_until_it_is_lost() {
        let Some(first) = context("sessions_share_a_context_until_it_is_lost") else { return };
        let second = Context::open(Device::Software).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        first.destroy();
        first.poll();
        assert_eq!(first.lost(), Some(&GpuError::Lost { reason: "it was given up".into() }));
        let third = Context::open(Device::Software).unwrap().unwrap();
        assert!(!Arc::ptr_eq(&first, &third) && third.lost().is_none());
    }

    #[test]
    fn the_adapter_s_limits_and_features_are_the_device_s() {
        let Some(context) = context("the_adapter_s_limits_and_features_are_the_device_s") else { return };
        let (device, description) = (context.device(), context.description());
        assert_eq!(description.kind, AdapterKind::Software);
        assert_eq!(device.limits().max_storage_buffer_binding_size, description.max_binding_bytes);
        assert_eq!(device.limits().max_compute_workgroup_storage_size, description.max_workgroup_bytes);
        assert_eq!(device.features().contains(wgpu::Features::SUBGROUP), description.subgroup_size.is_some());
    }

    #[test]
    fn a_call_that_fails_is_an_error_and_the_device_goes_on() {
        let Some(context) = context("a_call_that_fails_is_an_error_and_the_device_goes_on") else { return };
        let buffer = |size: u64| {
            context.scoped("a buffer for weights", || {
                context.device().create_buffer(&wgpu::BufferDescriptor {
                    label: None,
                    size,
                    usage: wgpu::BufferUsages::STORAGE,
                    mapped_at_creation: false,
                })
            })
        };
        let error = buffer(u64::MAX / 2).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, GpuError::Invalid { .. }) && text.starts_with("a buffer for weights: "), "{text}");
        assert!(!text.contains('\n'), "{text}");
        buffer(1024).unwrap();
        assert_eq!(context.lost(), None);
    }

    #[test]
    fn an_error_that_nobody_waits_for_is_told_to_the_next() {
        let Some(context) = context("an_error_that_nobody_waits_for_is_told_to_the_next") else { return };
        drop(context.device().create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: u64::MAX / 2,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        }));
        assert!(context.scoped("nothing", || ()).is_err());
        assert_eq!(context.scoped("nothing", || 7), Ok(7));
    }

    #[test]
    fn after_a_loss_everything_says_so() {
        let Some(context) = context("after_a_loss_everything_says_so") else { return };
        let empty = || context.queue().submit([]);
        let submission = context.scoped("a submission", empty).unwrap();
        context.wait(&submission, LONG).unwrap();
        context.destroy();
        // wgpu tells of it at the next poll, which a failed call makes.
        let error = context.scoped("a submission", empty).and_then(|submission| context.wait(&submission, LONG));
        assert!(error.is_err_and(|error| error.is_lost()));
        assert!(context.wait(&submission, LONG).is_err_and(|error| error.is_lost()));
        assert!(context.scoped("nothing", || ()).is_err_and(|error| error.is_lost()));
    }
}
