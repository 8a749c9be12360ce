// station FRAMEWORK MODE [A] [B]: what a railway keeps, under macaron, negroni, restful or goji. Leaks:
//
//	metrics     go-metrics; a timer for each train of each day, which the registry keeps
//	departures  a subscriber of the departures for each board, not taken off when the board goes
//	fares       what is found after the answer was given up waits for a reader
//	seats       buntdb; reservations by their number, which nobody deletes
//	rules       goja; a runtime for each ticket office's rules, all of them kept
//
// Healthy:
//
//	group      groupcache of A KiB
//	holds      buntdb; a seat is held A seconds
//	level      goleveldb in memory; the state of A trains, written over and over
//	pages      blackfriday and goquery; pages of up to A sections
//	timetable  every B seconds a timetable of A trains
//	signs      pongo2; A templates, compiled when first asked for
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/PuerkitoBio/goquery"
	"github.com/dop251/goja"
	restful "github.com/emicklei/go-restful"
	"github.com/flosch/pongo2"
	"github.com/golang/groupcache"
	metrics "github.com/rcrowley/go-metrics"
	"github.com/russross/blackfriday/v2"
	"github.com/syndtr/goleveldb/leveldb"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
	"github.com/tidwall/buntdb"
	"github.com/urfave/negroni"
	"goji.io"
	"goji.io/pat"
	"gopkg.in/macaron.v1"
)

type Train struct {
	Number int
	Name   string
	Note   string
	Stops  []Stop
}

type Stop struct {
	Place string
	Late  int
	Note  string
}

var words = strings.Fields("train track late platform north south early coach seat window bridge signal night line rail stop")

func prose(n int) string {
	picked := make([]string, n)
	for i := range picked {
		picked[i] = words[rand.Intn(len(words))]
	}
	return strings.Join(picked, " ")
}

func train(number int) *Train {
	found := &Train{Number: number, Name: prose(3), Note: prose(30 + rand.Intn(200))}
	for k := rand.Intn(20); k >= 0; k-- {
		found.Stops = append(found.Stops, Stop{prose(2), rand.Intn(30), prose(10)})
	}
	return found
}

func encoded(found *Train) string {
	text, _ := json.Marshal(found)
	return string(text)
}

// Some come often.
func regular(number, people int) int {
	x := float64(number) / 1e9
	return int(float64(people) * x * x * x)
}

type board struct {
	news  chan *Train
	shown []*Train
}

func modes(mode string, a, b int) func(number int) string {
	switch mode {
	case "metrics":
		return func(number int) string {
			timer := metrics.GetOrRegisterTimer(fmt.Sprintf("train.%d.day.%d", number%5000, number%30), nil)
			began := time.Now()
			text := encoded(train(number))
			timer.UpdateSince(began)
			return text
		}
	case "departures":
		var lock sync.Mutex
		var boards []*board
		return func(number int) string {
			one := &board{news: make(chan *Train, 16)}
			go func() {
				for found := range one.news {
					if one.shown = append(one.shown, found); len(one.shown) > 8 {
						one.shown = append([]*Train{}, one.shown[1:]...)
					}
				}
			}()
			lock.Lock()
			defer lock.Unlock()
			boards = append(boards, one)
			found := train(number)
			for k := 0; k < 10; k++ {
				select {
				case boards[rand.Intn(len(boards))].news <- found:
				default:
				}
			}
			return encoded(found)
		}
	case "fares":
		return func(number int) string {
			found := make(chan []*Train)
			go func() {
				var fares []*Train
				for k := 0; k < 12; k++ {
					fares = append(fares, train(number+k))
				}
				time.Sleep(time.Duration(rand.ExpFloat64() * float64(20*time.Millisecond)))
				found <- fares
			}()
			select {
			case fares := <-found:
				return encoded(fares[0])
			case <-time.After(40 * time.Millisecond):
				return "later"
			}
		}
	case "seats", "holds":
		database, _ := buntdb.Open(":memory:")
		return func(number int) string {
			text := encoded(train(number))
			database.Update(func(tx *buntdb.Tx) error {
				var options *buntdb.SetOptions
				if mode == "holds" {
					options = &buntdb.SetOptions{Expires: true, TTL: time.Duration(a) * time.Second}
				}
				_, _, err := tx.Set("seat:"+strconv.Itoa(number), text, options)
				return err
			})
			return text
		}
	case "rules":
		var lock sync.Mutex
		offices := map[int]*goja.Runtime{}
		return func(number int) string {
			lock.Lock()
			defer lock.Unlock()
			office := regular(number, 30000)
			if offices[office] == nil {
				offices[office] = goja.New()
				offices[office].RunString("var sold = []; function fare(n) { sold.push(n); if (sold.length > 30) sold.shift(); return JSON.stringify(sold.map(function (s) { return s % 97; })); }")
			}
			text, _ := offices[office].RunString(fmt.Sprintf("fare(%d)", number))
			return text.String()
		}
	case "group":
		group := groupcache.NewGroup("trains", int64(a)<<10, groupcache.GetterFunc(func(_ context.Context, key string, into groupcache.Sink) error {
			number, _ := strconv.Atoi(key)
			return into.SetString(encoded(train(number)))
		}))
		return func(number int) string {
			var text string
			group.Get(context.Background(), strconv.Itoa(regular(number, 5*a)), groupcache.StringSink(&text))
			return text
		}
	case "level":
		database, _ := leveldb.Open(storage.NewMemStorage(), &opt.Options{WriteBuffer: 1 << 20, BlockCacheCapacity: 2 << 20, CompactionTableSize: 1 << 20})
		return func(number int) string {
			key := []byte(strconv.Itoa(regular(number, a)))
			for k := 0; k < 4; k++ {
				database.Put([]byte(strconv.Itoa(rand.Intn(a))), []byte(encoded(train(number))), nil)
			}
			text, _ := database.Get(key, nil)
			return string(text)
		}
	case "pages":
		return func(number int) string {
			var text strings.Builder
			for k := 1 + rand.Intn(a); k > 0; k-- {
				fmt.Fprintf(&text, "## %s\n\n%s\n\n- %s\n- *%s*\n\n", prose(3), train(number).Note, prose(5), prose(4))
			}
			page, _ := goquery.NewDocumentFromReader(strings.NewReader(string(blackfriday.Run([]byte(text.String())))))
			return page.Find("h2").Text()
		}
	case "timetable":
		go func() {
			for range time.Tick(time.Duration(b) * time.Second) {
				all := make([]*Train, a)
				for k := range all {
					all[k] = train(k)
				}
				sort.Slice(all, func(i, j int) bool { return all[i].Note < all[j].Note })
				json.Marshal(all)
			}
		}()
		return func(number int) string { return encoded(train(number)) }
	case "signs":
		var lock sync.Mutex
		compiled := map[int]*pongo2.Template{}
		sources := make([]string, a)
		for k := range sources {
			for n := 0; n < 50; n++ {
				sources[k] += fmt.Sprintf("{%% if train.Number > %d %%}%s {{ train.Name }}{%% endif %%}\n", n*k, prose(6))
			}
		}
		return func(number int) string {
			lock.Lock()
			defer lock.Unlock()
			sign := regular(number, a)
			if compiled[sign] == nil {
				compiled[sign], _ = pongo2.FromString(sources[sign])
			}
			text, _ := compiled[sign].Execute(pongo2.Context{"train": train(number)})
			return text
		}
	}
	panic(mode)
}

func main() {
	a, b := 0, 0
	if len(os.Args) > 3 {
		a, _ = strconv.Atoi(os.Args[3])
	}
	if len(os.Args) > 4 {
		b, _ = strconv.Atoi(os.Args[4])
	}
	answer := modes(os.Args[2], a, b)
	item := func(number string) string {
		n, _ := strconv.Atoi(number)
		return answer(n)
	}
	var handler http.Handler
	switch os.Args[1] {
	case "macaron":
		m := macaron.New()
		m.Get("/item/:number", func(c *macaron.Context) string { return item(c.Params("number")) })
		handler = m
	case "goji":
		mux := goji.NewMux()
		mux.HandleFunc(pat.Get("/item/:number"), func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(item(pat.Param(r, "number")))) })
		handler = mux
	case "restful":
		service := new(restful.WebService)
		service.Route(service.GET("/item/{number}").To(func(r *restful.Request, w *restful.Response) { w.Write([]byte(item(r.PathParameter("number")))) }))
		container := restful.NewContainer()
		container.Add(service)
		handler = container
	default:
		mux := http.NewServeMux()
		mux.HandleFunc("/item/", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(item(strings.TrimPrefix(r.URL.Path, "/item/")))) })
		n := negroni.New(negroni.NewRecovery())
		n.UseHandler(mux)
		handler = n
	}
	http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), handler)
}
