// Package doctor looks at a database as the server would use it, finds what is wrong or will be, and says how to mend it.
//
// Each finding has an id that does not change, why it matters, and steps to paste. The doctor reads only; it takes no lock that a
// writer could wait for, and its one notification is on a channel of its own. Where a broker carries changes it sends one record around,
// which servers pass over. What it can't look at for want of a right is a finding too.
//
// One goroutine does all of it, over one connection, and a second and third one for what takes two sessions.
package doctor
