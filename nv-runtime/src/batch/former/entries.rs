use nv_core::MonoTime;

use super::{EntryKey, LaneKey};

/// Which entries are here, and how many of their parts. Keys of entries that have gone fit nothing.
#[derive(Debug, Default)]
pub(super) struct EntryTable {
    slots: Vec<EntrySlot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct EntrySlot {
    generation: u32,
    /// `None`: free.
    entry: Option<Entry>,
}

/// A frame at the point, whole or in parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) lane: LaneKey,
    /// Parts that wait.
    pub(super) waiting: u32,
    /// Parts that are being computed.
    pub(super) computing: u32,
    /// Whether a part of it was computed, and whether one failed by itself.
    pub(super) computed: bool,
    pub(super) guilty: bool,
    /// When the latest of its parts was dispatched.
    pub(super) dispatched: Option<MonoTime>,
}

impl EntryTable {
    /// Takes in an entry of which `parts` wait.
    pub(super) fn insert(&mut self, lane: LaneKey, parts: u32) -> EntryKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(EntrySlot { generation: 0, entry: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.entry =
            Some(Entry { lane, waiting: parts, computing: 0, computed: false, guilty: false, dispatched: None });
        EntryKey { index, generation: slot.generation }
    }

    pub(super) fn get(&self, key: EntryKey) -> Option<&Entry> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.entry.as_ref() } else { None }
    }

    pub(super) fn get_mut(&mut self, key: EntryKey) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.entry.as_mut() } else { None }
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, key: EntryKey) -> Option<Entry> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        Some(entry)
    }

    /// How many entries a lane has.
    #[cfg(test)]
    pub(super) fn of_lane(&self, lane: LaneKey) -> usize {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref()).filter(|entry| entry.lane == lane).count()
    }

    /// Forgets every entry of a lane; returns how many of their parts were being computed.
    pub(super) fn remove_lane(&mut self, lane: LaneKey) -> usize {
        let mut computing = 0;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Some(entry) = slot.entry.take_if(|e| e.lane == lane) {
                computing += entry.computing as usize;
                slot.generation = slot.generation.wrapping_add(1);
                self.free.push(index as u32);
            }
        }
        computing
    }
}

impl Entry {
    /// Whether all of its parts have come to their end.
    pub(super) fn is_done(&self) -> bool {
        self.waiting == 0 && self.computing == 0
    }
}
