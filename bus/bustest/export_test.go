package bustest

import "time"

// SetPatience is for a suite that is expected to fail.
func SetPatience(d time.Duration) { patience = d }
