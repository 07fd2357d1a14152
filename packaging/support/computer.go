package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
)

// Build says which build of the program this is.
func Build(w io.Writer, program, version string) error {
	fmt.Fprintf(w, "%s %s, %s, %s/%s", program, version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	info, ok := debug.ReadBuildInfo()
	for _, name := range []string{"GOARM", "GOAMD64", "vcs.revision", "vcs.time", "vcs.modified", "-tags"} {
		i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == name })
		if ok && i >= 0 {
			fmt.Fprintf(w, ", %s %s", name, info.Settings[i].Value)
		}
	}
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	_, err = fmt.Fprintf(w, "\n%s\n", path)
	return err
}

// Computer says what it runs on. What the system does not tell is left out.
func Computer(w io.Writer) error {
	fmt.Fprintf(w, "cores %d, of which used %d; account %d\n", runtime.NumCPU(), runtime.GOMAXPROCS(0), os.Getuid())
	for _, f := range []struct {
		path string
		keep []string // beginnings of lines; none: all
	}{
		{"/etc/os-release", []string{"PRETTY_NAME="}},
		{"/proc/version", nil},
		{"/proc/device-tree/model", nil},
		{"/proc/meminfo", []string{"MemTotal:", "MemAvailable:", "SwapTotal:", "SwapFree:"}},
		{"/proc/loadavg", nil},
		{"/proc/uptime", nil},
		{"/proc/pressure/io", []string{"full"}},
	} {
		for _, line := range linesOf(f.path) {
			if len(f.keep) == 0 || begins(line, f.keep) {
				fmt.Fprintf(w, "%-12s %s\n", filepath.Base(f.path), strings.Trim(line, "\x00"))
			}
		}
	}
	return processor(w)
}

// processor says the first processor's name and which of the instructions it has that matter here.
func processor(w io.Writer) error {
	useful := []string{"sse2", "sse4_2", "avx", "avx2", "fma", "avx512f", "avx512bw", "asimd", "neon", "vfpv4"}
	seen := map[string]bool{}
	for _, line := range linesOf("/proc/cpuinfo") {
		name, value, _ := strings.Cut(line, ":")
		switch name = strings.TrimSpace(name); {
		case seen[name]:
			continue
		case name == "model name" || name == "CPU part" || name == "Model":
			fmt.Fprintf(w, "%-12s %s\n", "processor", strings.TrimSpace(value))
		case name == "flags" || name == "Features":
			has := slices.DeleteFunc(strings.Fields(value), func(f string) bool { return !slices.Contains(useful, f) })
			fmt.Fprintf(w, "%-12s %s\n", "features", strings.Join(has, " "))
		}
		seen[name] = true
	}
	return nil
}

func begins(line string, with []string) bool {
	return slices.ContainsFunc(with, func(beginning string) bool { return strings.HasPrefix(line, beginning) })
}

// linesOf are the lines of a file of the system; none where it is not there.
func linesOf(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// unitFacts are what is asked of a unit.
const unitFacts = "LoadState,UnitFileState,ActiveState,SubState,Result,ExecMainStatus,ExecMainStartTimestamp,NRestarts,MainPID,StatusText," +
	"MemoryCurrent,MemoryMax,CPUUsageNSec,LimitNOFILE,FragmentPath,DropInPaths"

// Service says how the program's unit is.
func Service(ctx context.Context, w io.Writer, program string) error {
	return say(ctx, w, "no systemd here", "systemctl", "show", "--no-pager", "--property="+unitFacts, program+".service")
}

// logLines is how many lines of the log are shown.
const logLines = "50"

// Journal says the last lines of the program's log.
func Journal(ctx context.Context, w io.Writer, program string) error {
	if runtime.GOOS == "darwin" {
		return say(ctx, w, "no tail here", "tail", "-n", logLines, "/var/log/"+program+".err.log")
	}
	return say(ctx, w, "no journal here: add the last lines of the program's log, without passwords", "journalctl", "--no-pager", "--output=short-iso-precise", "--lines="+logLines, "--unit="+program)
}

// say runs a command of the system and shows what it says.
func say(ctx context.Context, w io.Writer, absent, command string, args ...string) error {
	path, err := exec.LookPath(command)
	if errors.Is(err, exec.ErrNotFound) {
		_, err := fmt.Fprintln(w, absent)
		return err
	}
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if _, writing := w.Write(out.Bytes()); writing != nil {
		return writing
	}
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	return nil
}

// Limits says what this process may use, which is what the service may when it is called the same way.
func Limits(w io.Writer) error {
	fmt.Fprintf(w, "GOMEMLIMIT %d\n", debug.SetMemoryLimit(-1))
	for _, line := range linesOf("/proc/self/limits") {
		if begins(line, []string{"Limit", "Max open files", "Max processes", "Max locked memory", "Max file size", "Max address space"}) {
			fmt.Fprintln(w, line)
		}
	}
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/pids.max"} {
		for _, line := range linesOf(path) {
			fmt.Fprintln(w, filepath.Base(path), line)
		}
	}
	return nil
}

// Environment names the program's variables, without their values.
func Environment(w io.Writer, environment []string) {
	var names []string
	for _, variable := range environment {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "HEIMDALL_") || slices.Contains([]string{"GOMEMLIMIT", "GOGC", "GOMAXPROCS", "GODEBUG", "TZ"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	fmt.Fprintf(w, "environment sets %s\n", strings.Join(append(names, "nothing more"), ", "))
}

// mostFiles is more than a directory of ours has.
const mostFiles = 40

// Folder lists what is in a directory, with sizes, modes and times.
func Folder(w io.Writer, path string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	n := 0
	err := filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			fmt.Fprintf(table, "error: %v\n", err)
			return nil // it is told in the text
		}
		if n++; n > mostFiles {
			fmt.Fprintln(table, "…")
			return fs.SkipAll
		}
		if info, err := entry.Info(); err == nil {
			fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format("2006-01-02T15:04:05Z"), file)
		}
		if entry.IsDir() && file != path {
			return fs.SkipDir
		}
		return nil
	})
	return errors.Join(err, table.Flush())
}
