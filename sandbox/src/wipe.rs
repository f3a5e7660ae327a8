//! Memory that does not remember: what is freed is overwritten first, and the stack where something was is overwritten
//! after it.
//!
//! An allocator hands freed memory out again as it is, and nobody overwrites what nobody asks for: an address that was
//! needed for a moment may stay in a process for weeks. Types that erase themselves cannot help where a library or a move
//! made a copy. So the programs that see addresses take [`Wiping`] as their allocator, and call [`stack`] where a moment's
//! work is done.
//!
//! What stays is what is still held, and what C libraries allocate by themselves.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    arch::asm,
    hint::black_box,
};

/// Deeper than what a request or a datagram makes of the stack.
const STACK: usize = 32 << 10;

/// The system's allocator, which overwrites what is freed.
pub struct Wiping;

// SAFETY: every call goes to the system's allocator as it came. Before a block is given back its own bytes are
// overwritten, which the caller owns until then. `realloc` is the provided one: a new block, a copy, the old one freed.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as asked.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has that many bytes, and nobody reads them any more.
        unsafe { block.write_bytes(0, layout.size()) };
        // SAFETY: does nothing. The compiler must take it for a reader of the block, or it would leave the writing out
        // before a block that is freed.
        unsafe { asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags)) };
        // SAFETY: as asked.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Overwrites what earlier calls left on the stack below the caller.
#[inline(never)]
pub fn stack() {
    let mut left = [0_u8; STACK];
    black_box(&mut left);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(unsafe_code)]
    fn a_freed_block_is_overwritten() {
        let layout = Layout::from_size_align(4_096, 8).unwrap();
        // SAFETY: the block is written within its size, and freed once.
        let freed = unsafe {
            let block = Wiping.alloc(layout);
            block.write_bytes(b'x', layout.size());
            Wiping.dealloc(block, layout);
            block as usize
        };
        // The same block again: what the allocator wrote into it for itself is at its beginning.
        // SAFETY: a fresh block that is looked at within its size, and freed once.
        let (again, remembers) = unsafe {
            let block = System.alloc(layout);
            let bytes = std::slice::from_raw_parts(block, layout.size());
            let remembers = bytes[64..].contains(&b'x');
            System.dealloc(block, layout);
            (block as usize, remembers)
        };
        assert_eq!(freed, again, "another block says nothing");
        assert!(!remembers);
    }
}
