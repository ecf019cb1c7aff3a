use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use abi_stable::StableAbi;

/// A counted share in memory that belongs to the other side: a clone takes one more share, a drop gives it back, both through
/// functions of the side that made it. So neither side needs to know the other's allocator or types.
#[repr(C)]
#[derive(StableAbi)]
pub struct Owner {
    object: *const (),
    retain: unsafe extern "C" fn(*const ()),
    release: unsafe extern "C" fn(*const ()),
}

// SAFETY: an Owner can only be made of an `Arc<T>` with `T: Send + Sync`, and its functions count atomically.
unsafe impl Send for Owner {}
// SAFETY: as above.
unsafe impl Sync for Owner {}

impl Owner {
    /// A share in `object`.
    pub fn new<T: Send + Sync + 'static>(object: Arc<T>) -> Self {
        Self { object: Arc::into_raw(object).cast(), retain: retain::<T>, release: release::<T> }
    }
}

unsafe extern "C" fn retain<T>(object: *const ()) {
    // SAFETY: `object` came from `Arc::<T>::into_raw` and the caller holds a share, so the count is at least one.
    unsafe { Arc::increment_strong_count(object.cast::<T>()) }
}

unsafe extern "C" fn release<T>(object: *const ()) {
    // A destructor that panics must not unwind into the other side; its memory is lost, nothing else.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `object` came from `Arc::<T>::into_raw` and the caller gives up one share that it holds.
        unsafe { Arc::decrement_strong_count(object.cast::<T>()) }
    }));
    if let Err(payload) = outcome {
        std::mem::forget(payload);
    }
}

impl Clone for Owner {
    fn clone(&self) -> Self {
        // SAFETY: this Owner holds a share for as long as it lives.
        unsafe { (self.retain)(self.object) };
        Self { ..*self }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: gives up this Owner's own share, once.
        unsafe { (self.release)(self.object) }
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Owner").field(&self.object).finish()
    }
}

/// Immutable bytes with a share in their owner: they cross, and may be kept, without being copied.
#[repr(C)]
#[derive(StableAbi, Clone)]
pub struct SharedBytes {
    data: *const u8,
    len: usize,
    owner: Owner,
}

// SAFETY: the bytes are never written while the owner lives, and the owner may move between threads.
unsafe impl Send for SharedBytes {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes {}

impl SharedBytes {
    /// The bytes that `view` finds in `owner`.
    pub fn new<T: Send + Sync + 'static>(owner: Arc<T>, view: impl FnOnce(&T) -> &[u8]) -> Self {
        let bytes = view(&owner);
        // The slice is borrowed from what the Arc holds: it stays where and as it is while any share lives.
        let (data, len) = (bytes.as_ptr(), bytes.len());
        Self { data, len, owner: Owner::new(owner) }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `new` took pointer and length from one slice inside the owner, of which this value holds a share.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_and_the_last_one_frees() {
        let object = Arc::new(String::from("pixels"));
        let owner = Owner::new(object.clone());
        let other = owner.clone();
        assert_eq!(Arc::strong_count(&object), 3);
        std::thread::spawn(move || drop(other)).join().unwrap();
        drop(owner);
        assert_eq!(Arc::strong_count(&object), 1);
    }

    #[test]
    fn bytes_are_seen_in_place() {
        let bytes: Arc<Arc<[u8]>> = Arc::new(Arc::from(*b"abc"));
        let shared = SharedBytes::new(bytes.clone(), |b| b);
        assert_eq!(shared.as_slice().as_ptr(), bytes.as_ptr());
        drop(bytes);
        assert_eq!(shared.clone().as_slice(), b"abc");
    }

    #[test]
    fn a_destructor_that_panics_stays_on_its_side() {
        struct Grenade;
        impl Drop for Grenade {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        drop(Owner::new(Arc::new(Grenade)));
    }
}
