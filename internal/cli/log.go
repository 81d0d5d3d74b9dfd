package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/kalda-io/kalda/internal/model"
	"github.com/kalda-io/kalda/internal/record"
	"github.com/kalda-io/kalda/internal/vfs"
)

func (a *app) logCommand() *cobra.Command {
	return groupCommand("log", "Look into the files of a log, check and mend them",
		a.logDump(), a.logVerify(), a.logIndexRebuild())
}

// dataFlag adds --data, where TOPIC:PARTITION and whole checks look.
func dataFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("data", "kalda-data", "`DIR` of the data")
}

// partitionDir is a partition's directory with the log directory that holds it.
type partitionDir struct {
	path string
	// root is the log directory, whose lock a running node holds; "" for a directory that
	// lies elsewhere.
	root string
}

// dirOf completes a partition's directory: <root>/parts/<id>-<n>.
func dirOf(path string) partitionDir {
	d := partitionDir{path: path}
	abs, err := filepath.Abs(path)
	if err == nil && filepath.Base(filepath.Dir(abs)) == "parts" {
		d.root = filepath.Dir(filepath.Dir(abs))
	}
	return d
}

// partitionDirs finds the partitions below a data directory: <data>/parts/* of a node,
// <data>/*/parts/* of `dev`.
func partitionDirs(data string) ([]partitionDir, error) {
	if _, err := os.Stat(data); err != nil {
		return nil, missing(err)
	}
	var list []partitionDir
	for _, pattern := range []string{"parts/*", "*/parts/*"} {
		paths, err := filepath.Glob(filepath.Join(globEscape(data), pattern))
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			if in, err := os.Stat(p); err == nil && in.IsDir() && !strings.HasSuffix(p, ".gone") {
				list = append(list, dirOf(p))
			}
		}
	}
	sort.Slice(list, func(i, j int) bool { return list[i].path < list[j].path })
	return list, nil
}

// globEscape makes a path a pattern that only it matches.
func globEscape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// missing makes a file that is not there exit code 3.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &failure{what: err.Error(), code: ExitNotFound, err: err}
	}
	return err
}

// locate finds what an argument means: a file, a directory, or TOPIC:PARTITION below data.
// Files carry the topic's id and not its name, so for a name a broker must be asked.
func (a *app) locate(ctx context.Context, arg, data string) (paths []string, err error) {
	if in, err := os.Stat(arg); err == nil {
		if !in.IsDir() {
			return []string{arg}, nil
		}
		return []string{arg}, nil
	}
	topic, partition, err := parseTopicPartition(arg)
	if err != nil || strings.ContainsRune(arg, filepath.Separator) {
		return nil, &failure{what: "no file or directory " + arg + ", and not TOPIC:PARTITION either", code: ExitNotFound}
	}
	dirs, err := partitionDirs(data)
	if err != nil {
		return nil, err
	}
	id, err := model.ParseTopicID(topic) // the id itself will do, without any broker
	if err != nil {
		if id, err = a.topicID(ctx, topic); err != nil {
			return nil, err
		}
	}
	name := id.Hex() + "-" + strconv.Itoa(int(partition))
	for _, d := range dirs {
		if filepath.Base(d.path) == name {
			paths = append(paths, d.path)
		}
	}
	if len(paths) == 0 {
		return nil, &failure{what: fmt.Sprintf("no log of %s (%s) below %s", arg, name, data), hint: "--data names the directory of the data", code: ExitNotFound}
	}
	return paths, nil
}

// topicID asks a broker for the id of a topic.
func (a *app) topicID(ctx context.Context, topic string) (model.TopicID, error) {
	var id model.TopicID
	err := a.withClient(ctx, func(ctx context.Context, c *client) error {
		ts, err := c.topics(ctx, topic)
		if err != nil {
			return err
		}
		id, err = model.ParseTopicID(ts[0].id)
		return err
	})
	if isUnreachable(err) {
		return id, &failure{
			what: "the name " + topic + " is known only to a broker, and none answers: " + err.Error(),
			hint: "name the partition's directory (DATA/parts/...) or write the topic's id instead of its name",
			code: ExitUnreachable,
		}
	}
	return id, err
}

// batchJSON is a batch in the answer of `log dump`.
type batchJSON struct {
	File          string `json:"file"`
	Position      int64  `json:"position"`
	Bytes         int    `json:"bytes"`
	BaseOffset    int64  `json:"base_offset"`
	LastOffset    int64  `json:"last_offset"`
	Records       int32  `json:"records"`
	LeaderEpoch   int32  `json:"leader_epoch"`
	Codec         string `json:"codec"`
	MaxTimestamp  string `json:"max_timestamp"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	BaseSequence  int32  `json:"base_sequence"`
	Transactional bool   `json:"transactional,omitempty"`
	Control       bool   `json:"control,omitempty"`
	CRC           uint32 `json:"crc"`
}

func utcMillis(ms int64) string {
	if ms < 0 {
		return "-"
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func batchOf(path string, b record.Batch, pos int64) batchJSON {
	return batchJSON{
		File: filepath.Base(path), Position: pos, Bytes: b.Size(), BaseOffset: int64(b.BaseOffset()), LastOffset: int64(b.LastOffset()),
		Records: b.NumRecords(), LeaderEpoch: int32(b.LeaderEpoch()), Codec: b.Codec().String(), MaxTimestamp: utcMillis(b.MaxTimestamp()),
		ProducerID: int64(b.ProducerID()), ProducerEpoch: int16(b.ProducerEpoch()), BaseSequence: b.BaseSequence(),
		Transactional: b.IsTransactional(), Control: b.IsControl(), CRC: b.CRC(),
	}
}

func (a *app) logDump() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump FILE|DIR|TOPIC:PARTITION",
		Short: "Print the batches, the records or the index entries of a log's files",
		Long: `Print what the files of a log hold: the batches of a .log, with --records every record,
the entries of an .index or a .timeindex. It reads beside a running node and changes
nothing. -o json prints one object for each line of the text.`,
		Args: wantArgs(false, "FILE, DIR or TOPIC:PARTITION"),
	}
	records := cmd.Flags().BoolP("records", "r", false, "every record instead of every batch")
	data := dataFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		paths, err := a.locate(cmd.Context(), args[0], *data)
		if err != nil {
			return err
		}
		d := &dumper{ctx: cmd.Context(), w: a.Stdout, format: *out, records: *records, reader: record.NewReader(0)}
		for _, p := range paths {
			if err := d.dump(p); err != nil {
				return err
			}
		}
		if d.bad {
			return &failure{what: "the log ends in bytes that are no batch", hint: "'kalda log verify' says more", code: ExitUnhealthy}
		}
		return nil
	}
	return cmd
}

// dumper prints files of logs.
type dumper struct {
	ctx     context.Context
	w       io.Writer
	format  string
	records bool
	reader  *record.Reader
	bad     bool
}

// line prints one line of text or one object.
func (d *dumper) line(v any, text string) error {
	if d.ctx.Err() != nil {
		return d.ctx.Err()
	}
	switch d.format {
	case outJSON:
		b, err := json.Marshal(v)
		if err == nil {
			_, err = fmt.Fprintf(d.w, "%s\n", b)
		}
		return err
	case outYAML:
		if _, err := io.WriteString(d.w, "---\n"); err != nil {
			return err
		}
		return writeYAML(d.w, v)
	}
	_, err := fmt.Fprintln(d.w, text)
	return err
}

// dump prints a file, or all segments of a directory.
func (d *dumper) dump(path string) error {
	in, err := os.Stat(path)
	if err != nil {
		return missing(err)
	}
	if in.IsDir() {
		segments, err := segmentsOf(path)
		if err != nil {
			return err
		}
		for _, s := range segments {
			if err := d.log(s); err != nil {
				return err
			}
		}
		return nil
	}
	switch filepath.Ext(path) {
	case ".log":
		return d.log(path)
	case ".index":
		entries, err := readIndex(path)
		for _, e := range entries {
			if err == nil {
				err = d.line(e, fmt.Sprintf("offset %d  position %d", e.Offset, e.Position))
			}
		}
		return err
	case ".timeindex":
		entries, err := readTimeIndex(path)
		for _, e := range entries {
			if err == nil {
				err = d.line(e, fmt.Sprintf("timestamp %d (%s)  offset %d", e.Timestamp, utcMillis(e.Timestamp), e.Offset))
			}
		}
		return err
	}
	return usage("%s: not a .log, .index or .timeindex", path)
}

func (d *dumper) log(path string) error {
	if err := d.head(path); err != nil {
		return err
	}
	t, err := scanLog(path, func(b record.Batch, pos int64) error {
		if d.records {
			return d.each(path, b)
		}
		j := batchOf(path, b, pos)
		text := fmt.Sprintf("offset %d..%d  %s  epoch %d  %s  %s  position %d  %s", j.BaseOffset, j.LastOffset, plural(int64(j.Records), "record"), j.LeaderEpoch, j.Codec, j.MaxTimestamp, pos, humanSize(int64(j.Bytes)))
		if j.ProducerID >= 0 {
			text += fmt.Sprintf("  producer %d epoch %d sequence %d", j.ProducerID, j.ProducerEpoch, j.BaseSequence)
		}
		if j.Transactional {
			text += "  transactional"
		}
		if j.Control {
			text += "  control"
		}
		if d.format == outWide {
			text += fmt.Sprintf("  crc %08x", j.CRC)
		}
		return d.line(j, text)
	})
	if err != nil {
		return err
	}
	if t.err != nil {
		d.bad = d.bad || !t.zeros
		dm := damage{path, t.at, fmt.Sprintf("%s that are no batch: %v", plural(t.size, "byte"), t.err)}
		return d.line(dm, fmt.Sprintf("position %d: %s", t.at, dm.Problem))
	}
	return nil
}

// head names the file, in text only: objects carry the name.
func (d *dumper) head(path string) error {
	if d.format == outJSON || d.format == outYAML {
		return nil
	}
	_, err := fmt.Fprintln(d.w, path)
	return err
}

// each prints the records of a batch.
func (d *dumper) each(path string, b record.Batch) error {
	if err := d.reader.Reset(b); err != nil {
		return fmt.Errorf("%s: batch at offset %d: %w", path, b.BaseOffset(), err)
	}
	var rec record.Record
	for {
		ok, err := d.reader.Next(&rec)
		if err != nil {
			return fmt.Errorf("%s: batch at offset %d: %w", path, b.BaseOffset(), err)
		}
		if !ok {
			return nil
		}
		j := recordJSON{Offset: int64(rec.Offset), Timestamp: utcMillis(rec.Timestamp)}
		j.Key, j.KeyBase64 = jsonBytes(rec.Key)
		j.Value, j.ValueBase64 = jsonBytes(rec.Value)
		for _, h := range rec.Headers {
			hj := headerJSON{Key: string(h.Key)}
			hj.Value, hj.ValueBase64 = jsonBytes(h.Value)
			j.Headers = append(j.Headers, hj)
		}
		text := fmt.Sprintf("%d  %s  key %s  value %s", rec.Offset, j.Timestamp, quoteShort(rec.Key), quoteShort(rec.Value))
		if err := d.line(fileRecord{filepath.Base(path), j.Offset, j.Timestamp, j.Key, j.KeyBase64, j.Value, j.ValueBase64, j.Headers}, text); err != nil {
			return err
		}
	}
}

// fileRecord is a record in the answer of `log dump --records`.
type fileRecord struct {
	File        string       `json:"file"`
	Offset      int64        `json:"offset"`
	Timestamp   string       `json:"timestamp"`
	Key         *string      `json:"key"`
	KeyBase64   string       `json:"key_base64,omitempty"`
	Value       *string      `json:"value"`
	ValueBase64 string       `json:"value_base64,omitempty"`
	Headers     []headerJSON `json:"headers,omitempty"`
}

// quoteShort shows bytes on one line.
func quoteShort(b []byte) string {
	if b == nil {
		return "null"
	}
	const most = 60
	if len(b) > most {
		return fmt.Sprintf("%q… (%s)", b[:most], humanSize(int64(len(b))))
	}
	return strconv.Quote(string(b))
}

// verifyReport is the answer of `log verify`.
type verifyReport struct {
	OK         bool     `json:"ok"`
	Partitions int      `json:"partitions"`
	Segments   int      `json:"segments"`
	Batches    int64    `json:"batches"`
	Records    int64    `json:"records"`
	Bytes      int64    `json:"bytes"`
	Damage     []damage `json:"damage"`
	// Tails are ends that a running node or a crash leaves; the next start cuts them.
	Tails []damage `json:"tails"`
}

func (a *app) logVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify [FILE|DIR|TOPIC:PARTITION...]",
		Short: "Check every batch and every index entry of logs",
		Long: `Check logs: the checksum and every record of each batch, that offsets grow, that each
index entry points at its batch, and that the batch headers of a closed segment, which the
batches' checksums do not cover, are those that it was closed with. Without an argument all logs below --data. It reads beside
a running node and changes nothing. The exit code is 6 when something is damaged.`,
		Args: cobra.ArbitraryArgs,
	}
	data := dataFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var paths []string
		for _, arg := range args {
			more, err := a.locate(cmd.Context(), arg, *data)
			if err != nil {
				return err
			}
			paths = append(paths, more...)
		}
		if len(args) == 0 {
			dirs, err := partitionDirs(*data)
			if err != nil {
				return err
			}
			for _, d := range dirs {
				paths = append(paths, d.path)
			}
		}
		r, err := a.verify(cmd.Context(), paths)
		if err != nil {
			return err
		}
		err = printResult(a.Stdout, *out, r, func(w io.Writer, _ bool) error {
			for _, d := range r.Damage {
				fmt.Fprintf(w, "damaged: %s at %d: %s\n", d.Path, d.Position, d.Problem)
			}
			for _, d := range r.Tails {
				fmt.Fprintf(w, "tail: %s at %d: %s; the next start cuts it\n", d.Path, d.Position, d.Problem)
			}
			_, err := fmt.Fprintf(w, "%s, %s, %s, %s, %s\n", plural(int64(r.Partitions), "log"), plural(int64(r.Segments), "segment"), plural(r.Batches, "batch"), plural(r.Records, "record"), humanSize(r.Bytes))
			return err
		})
		if err == nil && !r.OK {
			return &failure{what: plural(int64(len(r.Damage)), "place") + " damaged", code: ExitUnhealthy}
		}
		return err
	}
	return cmd
}

// verify checks segments and directories of segments.
func (a *app) verify(ctx context.Context, paths []string) (*verifyReport, error) {
	r := &verifyReport{Damage: []damage{}, Tails: []damage{}}
	var read atomic.Int64
	p := a.progress(func() string { return humanSize(read.Load()) + " checked" })
	defer p.stop()
	for _, path := range paths {
		segments := []string{path}
		if in, err := os.Stat(path); err != nil {
			return nil, missing(err)
		} else if in.IsDir() {
			if segments, err = segmentsOf(path); err != nil {
				return nil, err
			}
			lost, err := lostSegments(segments)
			if err != nil {
				return nil, err
			}
			r.Damage = append(r.Damage, lost...)
		} else if filepath.Ext(path) != ".log" {
			return nil, usage("%s: not a .log", path)
		}
		r.Partitions++
		var next model.Offset
		for i, s := range segments {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			one, err := verifySegment(s, next, func(d damage) { r.Damage = append(r.Damage, d) })
			if err != nil {
				return nil, missing(err)
			}
			next = one.next
			r.Segments++
			r.Batches += one.batches
			r.Records += one.records
			r.Bytes += one.bytes
			read.Store(r.Bytes)
			if one.tail.err == nil {
				continue
			}
			d := damage{s, one.tail.at, fmt.Sprintf("%s that are no batch: %v", plural(one.tail.size, "byte"), one.tail.err)}
			// The end of the last segment may be a write that a crash cut off or that is just
			// going on. Whole batches behind a bad one cannot come from that.
			if i == len(segments)-1 && (one.tail.zeros || errors.Is(one.tail.err, record.ErrPartial)) {
				r.Tails = append(r.Tails, d)
			} else {
				r.Damage = append(r.Damage, d)
			}
		}
	}
	r.OK = len(r.Damage) == 0
	return r, nil
}

// rebuiltRow is a segment in the answer of `log index-rebuild`.
type rebuiltRow struct {
	File    string `json:"file"`
	Entries int    `json:"entries"`
}

func (a *app) logIndexRebuild() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "index-rebuild FILE|DIR|TOPIC:PARTITION",
		Short: "Write the indexes of a log anew; its node must be stopped",
		Args:  wantArgs(false, "FILE, DIR or TOPIC:PARTITION"),
	}
	interval := cmd.Flags().String("interval", "4096", "`BYTES` of log between two entries (index.interval.bytes)")
	data := dataFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		gap, err := parseSize(*interval)
		if err != nil {
			return usage("--interval: %v", err)
		}
		paths, err := a.locate(cmd.Context(), args[0], *data)
		if err != nil {
			return err
		}
		rows := []rebuiltRow{}
		for _, p := range paths {
			more, err := rebuild(cmd.Context(), p, int64(gap))
			if err != nil {
				return err
			}
			rows = append(rows, more...)
		}
		return printResult(a.Stdout, *out, rows, func(w io.Writer, _ bool) error {
			t := table{cols: []column{{head: "SEGMENT"}, {head: "ENTRIES", right: true}}}
			for _, r := range rows {
				t.add(r.File, strconv.Itoa(r.Entries))
			}
			return t.write(w, false)
		})
	}
	return cmd
}

// rebuild writes the indexes of a segment or of all segments of a directory, under the
// lock that keeps a node from starting meanwhile.
func rebuild(ctx context.Context, path string, interval int64) ([]rebuiltRow, error) {
	dir, segments := path, []string{path}
	in, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, missing(err)
	case in.IsDir():
		if segments, err = segmentsOf(path); err != nil {
			return nil, err
		}
	case filepath.Ext(path) != ".log":
		return nil, usage("%s: not a .log", path)
	default:
		dir = filepath.Dir(path)
	}
	if root := dirOf(dir).root; root != "" {
		lock, err := vfs.OS{}.Lock(filepath.Join(root, "lock"))
		if errors.Is(err, vfs.ErrLocked) {
			return nil, &failure{what: "a node that runs holds " + root, hint: "stop it first; it repairs indexes by itself when it starts", code: ExitFailed}
		}
		if err != nil {
			return nil, err
		}
		defer lock.Close()
	}
	var rows []rebuiltRow
	for _, s := range segments {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n, err := rebuildIndexes(s, interval)
		if err != nil {
			return nil, failed(err, "rebuild the indexes of %s", s)
		}
		rows = append(rows, rebuiltRow{s, n})
	}
	return rows, nil
}
