// Command remote_write is a server of Prometheus remote write 2.0, made of Prometheus' own published handler and messages. It keeps what it is sent, and
// tells it to who asks by GET.
//
// A request is read by both layouts that servers have today: that of client_golang, where the start of a total belongs to the series, and that of
// Prometheus since 3.8, the protocol's 2.0-rc.4, where it belongs to the sample. Series with the label `refuse` are not taken, so that an answer
// counts only some of a request.
//
// It listens on a free port of 127.0.0.1, writes the address as its first line, and ends with its standard input.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/prometheus/client_golang/exp/api/remote"
	published "github.com/prometheus/client_golang/exp/api/remote/genproto/v2"
	server "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"google.golang.org/protobuf/proto"
)

// Sample is one value of a series, with its start by either layout; times are in milliseconds.
type Sample struct {
	Value         float64 `json:"value"`
	At            int64   `json:"at"`
	StartOfSeries int64   `json:"start_of_series"`
	StartOfSample int64   `json:"start_of_sample"`
}

// Series is what one element of a request says.
type Series struct {
	Labels     map[string]string `json:"labels"`
	Samples    []Sample          `json:"samples"`
	Histograms int               `json:"histograms"`
	Exemplars  int               `json:"exemplars"`
	Type       string            `json:"type"`
	Help       string            `json:"help"`
	Unit       string            `json:"unit"`
}

// Store keeps what was taken, and what was wrong.
type Store struct {
	mutex   sync.Mutex
	Taken   []Series `json:"taken"`
	Refused int      `json:"refused"`
	Wrong   []string `json:"wrong"`
}

// Store is called by the published handler with the body as it was before it was packed.
func (s *Store) Store(request *http.Request, kind remote.WriteMessageType) (*remote.WriteResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	answer := remote.NewWriteResponse()
	all, err := read(request, kind)
	if err != nil {
		s.Wrong = append(s.Wrong, err.Error())
		answer.SetStatusCode(http.StatusBadRequest)
		return answer, err
	}
	refused := 0
	for _, series := range all {
		if _, found := series.Labels["refuse"]; found {
			refused++
			continue
		}
		s.Taken = append(s.Taken, series)
		answer.Add(remote.WriteResponseStats{Samples: len(series.Samples), Histograms: series.Histograms, Exemplars: series.Exemplars})
	}
	if refused > 0 {
		s.Refused += refused
		answer.SetStatusCode(http.StatusBadRequest)
		return answer, fmt.Errorf("out of order sample: %d series are refused", refused)
	}
	return answer, nil
}

func (s *Store) tell(answer http.ResponseWriter, _ *http.Request) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	answer.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(answer).Encode(s); err != nil {
		log.Print(err)
	}
}

// read decodes a request by both layouts, and checks what the protocol asks of senders.
func read(request *http.Request, kind remote.WriteMessageType) ([]Series, error) {
	if kind != remote.WriteV2MessageType {
		return nil, fmt.Errorf("it is a %s", kind)
	}
	if version := request.Header.Get("X-Prometheus-Remote-Write-Version"); version != "2.0.0" {
		return nil, fmt.Errorf("its version is %q", version)
	}
	if request.UserAgent() == "" {
		return nil, errors.New("it has no User-Agent")
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	first, second := &published.Request{}, &server.Request{}
	if err := proto.Unmarshal(body, first); err != nil {
		return nil, fmt.Errorf("client_golang: %w", err)
	}
	if err := second.Unmarshal(body); err != nil {
		return nil, fmt.Errorf("prometheus: %w", err)
	}
	if len(first.Timeseries) == 0 || len(first.Timeseries) != len(second.Timeseries) {
		return nil, fmt.Errorf("%d series by one layout, and %d by the other", len(first.Timeseries), len(second.Timeseries))
	}
	if err := checkSymbols(first.Symbols); err != nil {
		return nil, err
	}
	all := make([]Series, len(first.Timeseries))
	for at := range all {
		if all[at], err = join(first.Symbols, first.Timeseries[at], &second.Timeseries[at]); err != nil {
			return nil, fmt.Errorf("series %d: %w", at, err)
		}
	}
	return all, nil
}

func checkSymbols(symbols []string) error {
	if len(symbols) == 0 || symbols[0] != "" {
		return errors.New("the first symbol is not empty")
	}
	known := make(map[string]bool, len(symbols))
	for _, symbol := range symbols {
		if known[symbol] {
			return fmt.Errorf("the symbol %q comes twice", symbol)
		}
		known[symbol] = true
	}
	return nil
}

// join is what both layouts say of a series.
func join(symbols []string, first *published.TimeSeries, second *server.TimeSeries) (Series, error) {
	var series Series
	labels, err := labelsOf(symbols, first.LabelsRefs)
	if err != nil {
		return series, err
	}
	if (len(first.Samples) == 0) == (len(first.Histograms) == 0) {
		return series, fmt.Errorf("%d samples and %d histograms", len(first.Samples), len(first.Histograms))
	}
	metadata := first.GetMetadata()
	if refs := max(metadata.GetHelpRef(), metadata.GetUnitRef()); int(refs) >= len(symbols) {
		return series, fmt.Errorf("its metadata points to the symbol %d of %d", refs, len(symbols))
	}
	series = Series{
		Labels:     labels,
		Histograms: len(first.Histograms),
		Exemplars:  len(first.Exemplars),
		Type:       metadata.GetType().String(),
		Help:       symbols[metadata.GetHelpRef()],
		Unit:       symbols[metadata.GetUnitRef()],
	}
	if len(first.Samples) != len(second.Samples) {
		return series, errors.New("the layouts differ in samples")
	}
	for at, sample := range first.Samples {
		other := second.Samples[at]
		if sample.Timestamp != other.Timestamp || at > 0 && sample.Timestamp <= first.Samples[at-1].Timestamp {
			return series, fmt.Errorf("the sample %d is not in order", at)
		}
		series.Samples = append(series.Samples, Sample{sample.Value, sample.Timestamp, first.CreatedTimestamp, other.StartTimestamp})
	}
	return series, nil
}

func labelsOf(symbols []string, refs []uint32) (map[string]string, error) {
	for _, ref := range refs {
		if int(ref) >= len(symbols) {
			return nil, fmt.Errorf("a label points to the symbol %d of %d", ref, len(symbols))
		}
	}
	if len(refs)%2 != 0 {
		return nil, fmt.Errorf("%d references of labels", len(refs))
	}
	pairs := published.DesymbolizeLabels(refs, symbols, nil)
	labels := make(map[string]string, len(pairs)/2)
	for at := 0; at < len(pairs); at += 2 {
		if pairs[at] == "" || pairs[at+1] == "" {
			return nil, fmt.Errorf("a label or its value is empty: %q", pairs)
		}
		if at > 0 && pairs[at] <= pairs[at-2] {
			return nil, fmt.Errorf("labels are not in order: %q", pairs)
		}
		labels[pairs[at]] = pairs[at+1]
	}
	if labels["__name__"] == "" {
		return nil, fmt.Errorf("it has no name: %q", pairs)
	}
	return labels, nil
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	store := &Store{Taken: []Series{}, Wrong: []string{}}
	http.Handle("POST /api/v1/write", remote.NewWriteHandler(store, remote.MessageTypes{remote.WriteV2MessageType}))
	http.HandleFunc("GET /{$}", store.tell)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	log.Fatal(http.Serve(listener, nil))
}
