package notifyql

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/notifyql/notifyql/internal/ws"
)

// Feature is something that a server does, and that can be switched on or off: see Config.Features.
type Feature struct {
	Name    string
	Default bool // whether it is on unless Config says otherwise
	Help    string
}

// Features returns all that can be switched, by name.
func Features() []Feature {
	return []Feature{
		{"batches", true, "the fields that give the changes of a transaction together, such as ordersBatch"},
		{"compression", false, "permessage-deflate for WebSockets, as Config.Compression"},
		{"federation", false, "a subgraph that a gateway composes with others, and entities that it looks up, as Config.Federation"},
		{"graphiql", true, "GraphiQL for a browser's GET, as GraphiQL.Disabled says"},
		{"graphql-ws", true, "the older protocol of WebSockets, subscriptions-transport-ws"},
		{"initial", true, "subscriptions that begin with the rows as they stand: the arguments initial, orderBy and limit"},
		{"introspection", true, "asking for the schema: __schema and __type. A gateway's _service has the schema all the same"},
		{"sse", true, "subscriptions as Server-Sent Events"},
	}
}

// applyFeatures makes the configuration say what its Features say. on has all features, by name.
func (c *Config) applyFeatures() (on map[string]bool, err error) {
	on = map[string]bool{}
	var names []string
	for _, f := range Features() {
		on[f.Name] = f.Default
		names = append(names, f.Name)
	}
	on["compression"], on["federation"], on["graphiql"] = c.Compression, c.Federation, !c.GraphiQL.Disabled
	for _, word := range c.Features {
		name, off := strings.CutPrefix(word, "-")
		if _, ok := on[name]; !ok {
			return nil, fmt.Errorf("there is no feature %q; there are %s", name, strings.Join(names, ", "))
		}
		on[name] = !off
	}
	c.Compression, c.Federation, c.GraphiQL.Disabled = on["compression"], on["federation"], !on["graphiql"]
	return on, nil
}

// featuresOn are the names of those that are on.
func (s *Server) featuresOn() []string {
	names := []string{}
	for name, on := range s.features {
		if on {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// subprotocols are those that the server speaks, the best first.
func (s *Server) subprotocols() []string {
	return slices.DeleteFunc(ws.Subprotocols(), func(name string) bool { return name == legacyProtocol && !s.features[legacyProtocol] })
}

// legacyProtocol is the older one's name, and its feature's.
const legacyProtocol = "graphql-ws"

// serveEvents serves Server-Sent Events, if they are on.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !s.features["sse"] {
		http.Error(w, "Server-Sent Events are switched off here; open a WebSocket with the subprotocol graphql-transport-ws", http.StatusNotAcceptable)
		return
	}
	s.events.ServeHTTP(w, r)
}
