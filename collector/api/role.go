package api

import (
	"fmt"

	"github.com/fulgidus/heimdall/protocol"
)

// roleOpen is the role of routes that ask for no token.
const roleOpen protocol.Role = "open"

// ruled refuses a table in which a route does not say who may ask for it.
func ruled(table []route) error {
	for _, rt := range table {
		if rt.role != roleOpen && !rt.role.Known() {
			return fmt.Errorf("api: %s %s: role %q, want open, viewer, operator or admin", rt.method, rt.path, rt.role)
		}
	}
	return nil
}
