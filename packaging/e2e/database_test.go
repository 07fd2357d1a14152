package e2e_test

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// postgresTool is a client program of PostgreSQL, preferably of the same version as the server.
func postgresTool(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err == nil && len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("PostgreSQL's %s is not here: %v; install the client programs", name, err)
	}
	return path
}

// tool runs a client program of PostgreSQL to its end and gives its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), postgresTool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// mustSQL runs SQL beside the collector and gives the bare values of the rows.
func mustSQL(t *testing.T, database, query string) string {
	t.Helper()
	return tool(t, "psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--command", query, database)
}
