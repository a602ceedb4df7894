package change

import "unsafe"

// text is b as a string without a copy: images are immutable.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
