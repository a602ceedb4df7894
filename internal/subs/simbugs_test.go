package subs

import "testing"

// simBugs are mistakes, each put in from outside: the code has no switch for them.
type simBugs struct {
	duplicates   bool // what was notified is dispatched without a look whether it was before
	placeFirst   bool // the hub's place is stored before the lists are filled
	openSeen     bool // a reader's place is behind a batch that is still open
	stubSeen     bool // or behind a stub that is being read
	unjudged     bool // a page is used before it is judged
	joinedBefore bool // a reader joins the list elsewhere than at the place that it catches up to
	syncedSoon   bool // SYNCED before it has arrived
	rowsBefore   bool // the place of rows is one of after they were read
	partWhole    bool // a cursor inside of a transaction claims all of it
	eraIgnored   bool // what is of another era is read all the same
}

// TestHubSimulatorFindsBugs shows that the simulator would find the mistakes that could be made.
func TestHubSimulatorFindsBugs(t *testing.T) {
	for name, bugs := range map[string]simBugs{
		"what was dispatched comes again":                   {duplicates: true},
		"the hub's place before its lists":                  {placeFirst: true},
		"behind a batch that is open":                       {openSeen: true},
		"a stub counted as seen":                            {stubSeen: true},
		"a page used before it is judged":                   {unjudged: true},
		"joined elsewhere than at the place caught up with": {joinedBefore: true},
		"SYNCED before it has arrived":                      {syncedSoon: true},
		"the place of rows of after they were read":         {rowsBefore: true},
		"part taken for whole":                              {partWhole: true},
		"era ignored":                                       {eraIgnored: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := uint64(1); seed <= 20_000; seed++ {
				if err := simulate(t, seed, bugs, nil); err != nil {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Fatal("not found")
		})
	}
}
