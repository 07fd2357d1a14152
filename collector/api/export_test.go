package api

// Rule is what the table of routes says of who may ask.
type Rule struct {
	Method, Path, Role string
	Network            bool
	Body               bool
}

// Rules lists the table that the router is made of, for tests that must leave no route out.
func Rules() []Rule {
	var rules []Rule
	for _, rt := range routes() {
		rules = append(rules, Rule{rt.method, rt.path, string(rt.role), rt.network, rt.body != nil})
	}
	return rules
}

// RoleOpen is the role of routes that ask for no token.
const RoleOpen = string(roleOpen)
