package powerloss

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// calls are the system calls that are recorded.
const calls = "openat,open,creat,close,lseek,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync," +
	"sync,syncfs,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,dup,dup2,dup3,fork,vfork"

// Recording is what a program did to the files below a directory.
type Recording struct {
	dir   string
	ops   []op
	nodes int
}

// kind of an op.
type kind int

const (
	opWrite    kind = iota // data at offset into node
	opTruncate             // node to size
	opSync                 // node, which may be a directory
	opName                 // name in directory node parent becomes node
	opUnname               // name in directory node parent goes
	opRename               // name in parent becomes newName in newParent
	opSay                  // data on the standard output
)

// op is one change, or one promise that earlier ones are durable. Ops are in the order in which they ended.
type op struct {
	kind      kind
	node      int
	isDir     bool
	offset    int64 // or size
	data      []byte
	parent    int
	name      string
	newParent int
	newName   string
	began     int // how many ops had ended when it began: a sync covers these only
}

const root = 0 // node of the directory itself

// Record runs cmd, which must not start other processes, and keeps what it does to the files below dir. The directory
// must be empty. cmd's standard output is taken; it may be killed by a signal of its own.
func Record(cmd *exec.Cmd, dir string) (*Recording, error) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		return nil, fmt.Errorf("strace is missing; install it (apt-get install strace, or make servers): %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("find the directory to watch: %w", err)
	}
	trace, err := os.CreateTemp("", "powerloss-*.strace")
	if err != nil {
		return nil, fmt.Errorf("make a file for the trace: %w", err)
	}
	defer os.Remove(trace.Name())
	defer trace.Close()
	var said strings.Builder
	traced := exec.Command(strace, append([]string{
		"-f", "--seccomp-bpf", "-qq", "-xx", "-s", strconv.Itoa(64 << 20), "-e", "trace=" + calls, "-e", "signal=none",
		"-o", trace.Name(), cmd.Path,
	}, cmd.Args[1:]...)...)
	traced.Env, traced.Dir = cmd.Env, cmd.Dir
	traced.Stdout, traced.Stderr = io.Discard, &said
	if err := traced.Run(); err != nil {
		return nil, fmt.Errorf("run under strace: %w: %s", err, said.String())
	}
	return parse(trace, dir)
}

// parser follows a trace.
type parser struct {
	r *Recording
	// What the program sees: nothing is lost for it.
	names  map[int]map[string]int // of each directory node
	sizes  map[int]int64
	fds    map[int]*file
	halves map[string]half // calls that have not ended, by thread
}

// file is an open file.
type file struct {
	node     int
	isDir    bool
	position int64
	appends  bool
}

type half struct {
	text  string
	began int
}

func parse(trace io.Reader, dir string) (*Recording, error) {
	p := &parser{
		r:     &Recording{dir: dir, nodes: 1},
		names: map[int]map[string]int{root: {}}, sizes: map[int]int64{}, fds: map[int]*file{}, halves: map[string]half{},
	}
	lines := bufio.NewReaderSize(trace, 1<<20)
	for {
		line, err := lines.ReadString('\n')
		if line = strings.TrimSpace(line); line != "" {
			if err := p.line(line); err != nil {
				return nil, fmt.Errorf("line %.200q of the trace: %w", line, err)
			}
		}
		if errors.Is(err, io.EOF) {
			return p.r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the trace: %w", err)
		}
	}
}

// line takes one line: thread, then a call, or the first or the second half of one.
func (p *parser) line(line string) error {
	thread, text, ok := strings.Cut(line, " ")
	if !ok {
		return errors.New("not a line of a trace")
	}
	text = strings.TrimSpace(text)
	if first, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
		p.halves[thread] = half{first, len(p.r.ops)}
		return nil
	}
	began := len(p.r.ops)
	if strings.HasPrefix(text, "<... ") {
		_, second, ok := strings.Cut(text, " resumed>")
		first, known := p.halves[thread]
		if !ok || !known {
			return errors.New("the second half of an unknown call")
		}
		delete(p.halves, thread)
		text, began = first.text+second, first.began
	}
	if strings.HasPrefix(text, "+++") || strings.HasPrefix(text, "---") || strings.HasPrefix(text, "???(") {
		return nil // an end, a signal, or a thread that was let go while it made no call
	}
	at := strings.LastIndex(text, ") ")
	open := strings.IndexByte(text, '(')
	if at < 0 || open < 0 {
		return errors.New("not a call")
	}
	result := strings.TrimLeft(text[at+2:], " =")
	number, _, _ := strings.Cut(result, " ")
	n := atoi(number)
	if n < 0 { // it failed and changed nothing, or the program ended in it
		return nil
	}
	return p.call(text[:open], arguments(text[open+1:at]), n, began)
}

// arguments splits at commas. Strings are in hexadecimal, so none has a comma.
func arguments(text string) []string {
	args := strings.Split(text, ",")
	for i := range args {
		args[i] = strings.TrimSpace(args[i])
	}
	return args
}

func (p *parser) call(name string, args []string, result, began int) error {
	switch name {
	case "openat":
		return p.open(args[1], args[2], result, began)
	case "close":
		delete(p.fds, atoi(args[0]))
		return nil
	case "mkdirat":
		return p.makeDir(args[1], began)
	case "mkdir":
		return p.makeDir(args[0], began)
	case "unlinkat":
		return p.unlink(args[1], began)
	case "unlink", "rmdir":
		return p.unlink(args[0], began)
	case "rename":
		return p.rename(args[0], args[1], began)
	case "renameat", "renameat2":
		return p.rename(args[1], args[3], began)
	case "write", "pwrite64", "lseek", "ftruncate", "fallocate", "fsync", "fdatasync":
		return p.onFile(name, args, result, began)
	case "fork", "vfork":
		return nil
	}
	for _, arg := range args {
		if path, err := text(arg); err == nil && p.watched(path) {
			return errors.New("a call that is not understood")
		}
	}
	if len(args) > 0 && p.fds[atoi(args[0])] != nil {
		return errors.New("a call that is not understood")
	}
	return nil
}

// onFile takes the calls that name an open file.
func (p *parser) onFile(name string, args []string, result, began int) error {
	fd := atoi(args[0])
	f := p.fds[fd]
	if fd == 1 && name == "write" {
		data, err := bytesOf(args[1], result)
		p.add(op{kind: opSay, data: data, began: began})
		return err
	}
	if f == nil {
		return nil
	}
	switch name {
	case "lseek":
		f.position = int64(result)
	case "fsync", "fdatasync":
		p.add(op{kind: opSync, node: f.node, isDir: f.isDir, began: began})
	case "ftruncate":
		p.sizes[f.node] = int64(atoi(args[1]))
		p.add(op{kind: opTruncate, node: f.node, offset: p.sizes[f.node], began: began})
	case "fallocate":
		if end := int64(atoi(args[2]) + atoi(args[3])); args[1] == "0" && end > p.sizes[f.node] {
			p.sizes[f.node] = end
			p.add(op{kind: opTruncate, node: f.node, offset: end, began: began})
		}
	default:
		data, err := bytesOf(args[1], result)
		if err != nil {
			return err
		}
		at := f.position
		switch {
		case name == "pwrite64":
			at = int64(atoi(args[3]))
		case f.appends:
			at = p.sizes[f.node]
		}
		if name == "write" {
			f.position = at + int64(len(data))
		}
		p.sizes[f.node] = max(p.sizes[f.node], at+int64(len(data)))
		p.add(op{kind: opWrite, node: f.node, offset: at, data: data, began: began})
	}
	return nil
}

func (p *parser) add(o op) { p.r.ops = append(p.r.ops, o) }

func (p *parser) open(pathArg, flags string, fd, began int) error {
	path, err := text(pathArg)
	if err != nil {
		return err
	}
	delete(p.fds, fd)
	if !p.watched(path) {
		return nil
	}
	if path == p.r.dir {
		p.fds[fd] = &file{node: root, isDir: true}
		return nil
	}
	parent, name, err := p.find(path)
	if err != nil {
		return err
	}
	node, exists := p.names[parent][name]
	if !exists {
		node = p.node()
		p.names[parent][name] = node
		p.add(op{kind: opName, node: node, parent: parent, name: name, began: began})
	}
	_, isDir := p.names[node]
	if exists && strings.Contains(flags, "O_TRUNC") {
		p.sizes[node] = 0
		p.add(op{kind: opTruncate, node: node, began: began})
	}
	p.fds[fd] = &file{node: node, isDir: isDir, appends: strings.Contains(flags, "O_APPEND")}
	return nil
}

func (p *parser) node() int {
	p.r.nodes++
	return p.r.nodes - 1
}

func (p *parser) makeDir(pathArg string, began int) error {
	path, err := text(pathArg)
	if err != nil || !p.watched(path) {
		return err
	}
	parent, name, err := p.find(path)
	if err != nil {
		return err
	}
	node := p.node()
	p.names[parent][name], p.names[node] = node, map[string]int{}
	p.add(op{kind: opName, node: node, isDir: true, parent: parent, name: name, began: began})
	return nil
}

func (p *parser) unlink(pathArg string, began int) error {
	path, err := text(pathArg)
	if err != nil || !p.watched(path) {
		return err
	}
	parent, name, err := p.find(path)
	if err != nil {
		return err
	}
	delete(p.names[parent], name)
	p.add(op{kind: opUnname, parent: parent, name: name, began: began})
	return nil
}

func (p *parser) rename(fromArg, toArg string, began int) error {
	from, err := text(fromArg)
	if err != nil || !p.watched(from) {
		return err
	}
	to, err := text(toArg)
	if err != nil {
		return err
	}
	if !p.watched(to) {
		return fmt.Errorf("a file is moved out of the directory to %s", to)
	}
	parent, name, err := p.find(from)
	if err != nil {
		return err
	}
	newParent, newName, err := p.find(to)
	if err != nil {
		return err
	}
	p.names[newParent][newName] = p.names[parent][name]
	delete(p.names[parent], name)
	p.add(op{kind: opRename, parent: parent, name: name, newParent: newParent, newName: newName, node: p.names[newParent][newName], began: began})
	return nil
}

func (p *parser) watched(path string) bool {
	return path == p.r.dir || strings.HasPrefix(path, p.r.dir+"/")
}

// find gives the directory of a path below the watched one, and the name in it.
func (p *parser) find(path string) (parent int, name string, err error) {
	parts := strings.Split(strings.TrimPrefix(path, p.r.dir+"/"), "/")
	for _, part := range parts[:len(parts)-1] {
		node, ok := p.names[parent][part]
		if _, isDir := p.names[node]; !ok || !isDir {
			return 0, "", fmt.Errorf("%s is in no known directory", path)
		}
		parent = node
	}
	return parent, parts[len(parts)-1], nil
}

// text is a string as strace writes it with -xx.
func text(arg string) (string, error) {
	b, err := unhex(arg)
	return string(b), err
}

func bytesOf(arg string, n int) ([]byte, error) {
	b, err := unhex(arg)
	if err == nil && len(b) < n {
		err = fmt.Errorf("%d bytes were written, the trace has %d", n, len(b))
	}
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

func unhex(arg string) ([]byte, error) {
	quoted, ok := strings.CutPrefix(arg, `"`)
	quoted, end := strings.CutSuffix(quoted, `"`)
	if !ok || !end {
		return nil, fmt.Errorf("%.40q is no string", arg)
	}
	return hex.DecodeString(strings.ReplaceAll(quoted, `\x`, ""))
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
