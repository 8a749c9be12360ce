import com.google.gson.Gson;
import com.lmax.disruptor.dsl.Disruptor;
import com.sun.jersey.api.container.httpserver.HttpServerFactory;
import com.sun.jersey.api.core.DefaultResourceConfig;
import com.thoughtworks.xstream.XStream;
import com.zaxxer.hikari.*;
import groovy.lang.*;
import java.io.*;
import java.net.InetAddress;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.*;
import javassist.*;
import javax.ws.rs.*;
import org.apache.commons.jexl3.*;
import org.apache.http.entity.*;
import org.apache.http.impl.bootstrap.*;
import org.apache.lucene.analysis.standard.StandardAnalyzer;
import org.apache.lucene.document.*;
import org.apache.lucene.index.*;
import org.apache.lucene.search.*;
import org.apache.lucene.store.ByteBuffersDirectory;
import org.apache.velocity.VelocityContext;
import org.apache.velocity.app.VelocityEngine;
import org.apache.velocity.runtime.resource.loader.StringResourceLoader;
import org.apache.velocity.runtime.resource.util.StringResourceRepository;
import org.jsoup.Jsoup;
import org.mozilla.javascript.Context;
import org.mozilla.javascript.Scriptable;
import org.quartz.*;
import org.quartz.impl.StdSchedulerFactory;

/** Theatre FRAMEWORK MODE [A] [B]: what a theatre keeps, under httpcore or jersey. Leaks:
 *   formulas   groovy; one shell evaluates each formula for a price, and its loader keeps their classes
 *   searchers  lucene; searchers of reviews are acquired and not released
 *   cues       quartz; a reminder in 30 days for each booking, also for those cancelled
 *   trail      a thread's trail of what it did, emptied at a login that never comes
 *   themes     rhino; a scope for each visitor's theme, of visitors who do not come back
 *   cursors    h2; a connection for each export, open until its last page is fetched, which few do
 *   rooms      disruptor; a ring and a thread for each chat about a play
 *   roles      javassist; a class for each casting, whose pool keeps them
 *   lights     subscribers of a lighting board, with their scenes, which a page that is left does not take off
 *   tickets    h2; tickets by their id, old ones never deleted
 *   beans      a managed bean for each booking, which the server of beans keeps
 *   weakly     plays are the weak keys of contracts, which hold their plays
 * Healthy:
 *   bills      velocity; A templates, compiled when first asked for
 *   box        hikari and h2; the bookings of the last A seconds
 *   plays      gson; a play of up to A acts for each request
 *   critics    jsoup; pages of up to A reviews
 *   library    lucene; A plays, written anew now and then
 *   cloakroom  coats wait A seconds at most
 *   wardrobe   xstream; every B seconds A costumes are written out and read again
 *   prices     jexl with a cache of A expressions
 *   scripts    rhino; at most A scopes, the oldest goes
 *   posters    up to A posters drawn, the least asked for goes
 *   films      at most A direct buffers of half a MiB, made when all are lent
 *   mail       a clerk answers at most A letters a second, in surges they wait */
public class Theatre {
    static final String[] WORDS = "play act scene stage light curtain seat row box night king fool ghost letter sword song".split(" ");
    static final Map<Object, Object> kept = new ConcurrentHashMap<>();
    static final AtomicLong count = new AtomicLong();

    static int random(int n) { return ThreadLocalRandom.current().nextInt(n); }

    static String prose(int n) {
        return IntStream.range(0, n).mapToObj(k -> WORDS[random(WORDS.length)]).collect(Collectors.joining(" "));
    }

    public static class Play {
        public final long number;
        public final String title = prose(4), plot = prose(40 + random(200));
        public final List<String> cast = Stream.generate(() -> prose(9)).limit(2 + random(25)).collect(Collectors.toList());

        Play(long number) { this.number = number; }

        @Override public String toString() { return number + "\n" + title + "\n" + plot + "\n" + String.join("\n", cast); }
    }

    public interface Answer { Object to(long number) throws Exception; }

    /** The least recently used of `size`. */
    static <K, V> Map<K, V> lru(int size) {
        return Collections.synchronizedMap(new LinkedHashMap<K, V>(16, 0.75f, true) {
            @Override protected boolean removeEldestEntry(Map.Entry<K, V> eldest) { return size() > size; }
        });
    }

    /** Some come often. */
    static int regular(long number, int people) { return (int) (people * Math.pow(number / 1e9, 3)); }

    static final class Bubble { Object text; }

    static final class Coat {
        final long hung = System.nanoTime();
        final Play of = new Play(1);
        final byte[] picture = new byte[6000 + random(6000)];
    }

    static Answer answer(String mode, int a, int b) throws Exception {
        switch (mode) {
            case "formulas": {
                GroovyShell shell = new GroovyShell();
                return number -> {
                    shell.setVariable("seats", 1 + random(4));
                    return shell.evaluate("def base = " + number % 90 + "." + number % 97 + "; def fee = { it * 0.0" + number % 10 + " }; [base, fee(base), base * seats]");
                };
            }
            case "searchers": case "library": {
                IndexWriter writer = new IndexWriter(new ByteBuffersDirectory(), new IndexWriterConfig(new StandardAnalyzer()).setRAMBufferSizeMB(2));
                SearcherManager manager = new SearcherManager(writer, null);
                boolean keeps = mode.equals("searchers");
                return number -> {
                    String id = Integer.toString(regular(number, keeps ? 400 : a));
                    Document review = new Document();
                    review.add(new StringField("id", id, Field.Store.YES));
                    review.add(new TextField("text", new Play(number).toString(), Field.Store.YES));
                    writer.updateDocument(new Term("id", id), review);
                    if (random(keeps ? 3 : 8) == 0) manager.maybeRefresh();
                    IndexSearcher searcher = manager.acquire();
                    TopDocs found = searcher.search(new TermQuery(new Term("text", WORDS[random(WORDS.length)])), 5);
                    String text = found.scoreDocs.length == 0 ? "" : searcher.doc(found.scoreDocs[0].doc).get("text");
                    if (!keeps) manager.release(searcher);
                    return text;
                };
            }
            case "cues": {
                Scheduler scheduler = new StdSchedulerFactory().getScheduler();
                scheduler.start();
                return number -> {
                    Play play = new Play(number);
                    JobDataMap data = new JobDataMap(Map.of("play", play, "letter", prose(150)));
                    scheduler.scheduleJob(JobBuilder.newJob(Reminder.class).withIdentity("cue" + count.incrementAndGet()).usingJobData(data).build(),
                        TriggerBuilder.newTrigger().startAt(new java.util.Date(System.currentTimeMillis() + 30L * 86_400_000)).build());
                    return play;
                };
            }
            case "trail": {
                ThreadLocal<List<Object>> trail = ThreadLocal.withInitial(ArrayList::new);
                return number -> {
                    Play play = new Play(number);
                    trail.get().addAll(List.of(System.nanoTime(), play));
                    return play;
                };
            }
            case "themes": case "scripts": {
                Map<Object, Scriptable> scopes = mode.equals("themes") ? new ConcurrentHashMap<>() : lru(a);
                return number -> {
                    Context context = Context.enter();
                    try {
                        context.setOptimizationLevel(-1);
                        int visitor = mode.equals("themes") ? regular(number, 20_000) : regular(number, 1500);
                        Scriptable scope = scopes.computeIfAbsent(visitor, k -> {
                            Scriptable made = context.initSafeStandardObjects();
                            context.evaluateString(made, "var seen = []; function page(n) { seen.push(n); if (seen.length > 20) seen.shift(); return seen.join('/') + Math.sqrt(n); }", "theme", 1, null);
                            return made;
                        });
                        return context.evaluateString(scope, "page(" + number + ")", "page", 1, null);
                    } finally {
                        Context.exit();
                    }
                };
            }
            case "cursors": case "tickets": case "box": {
                HikariConfig config = new HikariConfig();
                config.setJdbcUrl("jdbc:h2:mem:theatre;DB_CLOSE_DELAY=-1");
                config.setMaximumPoolSize(4);
                HikariDataSource pool = new HikariDataSource(config);
                try (Connection one = pool.getConnection()) {
                    one.createStatement().execute("create table ticket (id identity, sold bigint, play bigint, text varchar)");
                    one.createStatement().execute("create index by_sold on ticket (sold)");
                    if (mode.equals("cursors")) one.createStatement().execute("insert into ticket (sold, play, text) select x, x, repeat('seat ', 10) from system_range(1, 300)");
                }
                if (mode.equals("box")) every(5, () -> {
                    try (Connection one = pool.getConnection(); PreparedStatement old = one.prepareStatement("delete from ticket where sold < ?")) {
                        old.setLong(1, System.currentTimeMillis() - a * 1000L);
                        old.executeUpdate();
                    }
                    return null;
                });
                if (mode.equals("cursors")) return number -> {
                    Connection export = DriverManager.getConnection("jdbc:h2:mem:theatre");
                    ResultSet rows = export.createStatement().executeQuery("select id, text from ticket where mod(id, 10) = " + number % 10);
                    kept.put(number, rows);
                    return rows.next() ? rows.getString(2) : "";
                };
                return number -> {
                    try (Connection one = pool.getConnection()) {
                        try (PreparedStatement sale = one.prepareStatement("insert into ticket (sold, play, text) values (?, ?, ?)")) {
                            sale.setLong(1, System.currentTimeMillis());
                            sale.setLong(2, number);
                            sale.setString(3, new Play(number).toString());
                            sale.executeUpdate();
                        }
                        try (ResultSet rows = one.createStatement().executeQuery("select text from ticket order by id desc limit 3")) {
                            StringBuilder text = new StringBuilder();
                            while (rows.next()) text.append(rows.getString(1)).append('\n');
                            return text;
                        }
                    }
                };
            }
            case "rooms":
                return number -> {
                    int chat = regular(number, 20_000);
                    @SuppressWarnings("unchecked")
                    Disruptor<Bubble> room = (Disruptor<Bubble>) kept.computeIfAbsent(chat, k -> {
                        Disruptor<Bubble> made = new Disruptor<>(Bubble::new, 256, Executors.defaultThreadFactory(),
                            com.lmax.disruptor.dsl.ProducerType.MULTI, new com.lmax.disruptor.BlockingWaitStrategy());
                        made.handleEventsWith((bubble, at, last) -> count.incrementAndGet());
                        made.start();
                        return made;
                    });
                    Play play = new Play(number);
                    room.publishEvent((bubble, at) -> bubble.text = play);
                    return play.title + kept.size();
                };
            case "roles": {
                ClassPool pool = ClassPool.getDefault();
                return number -> {
                    CtClass role = pool.makeClass("Role" + count.incrementAndGet());
                    for (int k = 0; k < 4; k++)
                        role.addMethod(CtNewMethod.make("public String line" + k + "(int n) { return \"" + prose(9) + "\" + (n * " + number % 100 + "); }", role));
                    Object made = role.toClass(Theatre.class).getDeclaredConstructor().newInstance();
                    return made.getClass().getMethod("line1", int.class).invoke(made, 7);
                };
            }
            case "lights": {
                List<Runnable> board = new CopyOnWriteArrayList<>();
                return number -> {
                    Play scene = new Play(number);
                    float[] levels = new float[1200];
                    board.add(() -> Arrays.fill(levels, scene.number % 100));
                    board.get(random(board.size())).run();
                    return scene;
                };
            }
            case "beans": {
                javax.management.MBeanServer beans = java.lang.management.ManagementFactory.getPlatformMBeanServer();
                return number -> {
                    Booking booking = new Booking(number);
                    beans.registerMBean(booking, new javax.management.ObjectName("theatre:type=Booking,id=" + count.incrementAndGet()));
                    return booking.of;
                };
            }
            case "weakly": {
                Map<Play, Object[]> contracts = Collections.synchronizedMap(new WeakHashMap<>());
                return number -> {
                    Play play = new Play(number);
                    contracts.put(play, new Object[] { play, prose(100 + random(300)) });
                    return play.title + contracts.size();
                };
            }
            case "films": {
                Deque<java.nio.ByteBuffer> idle = new ConcurrentLinkedDeque<>();
                ScheduledExecutorService hall = Executors.newScheduledThreadPool(1);
                return number -> {
                    java.nio.ByteBuffer film = idle.poll();
                    if (film == null && count.get() >= a) return "full";
                    if (film == null) {
                        film = java.nio.ByteBuffer.allocateDirect(1 << 19);
                        count.incrementAndGet();
                    }
                    while (film.remaining() > 4000) film.put(new Play(number).plot.getBytes());
                    film.clear();
                    java.nio.ByteBuffer lent = film;
                    hall.schedule(() -> idle.push(lent), 500 + random(4000), TimeUnit.MILLISECONDS);
                    return count;
                };
            }
            case "mail": {
                BlockingQueue<Object[]> letters = new LinkedBlockingQueue<>();
                Thread clerk = new Thread(() -> {
                    try {
                        while (true) {
                            Object[] letter = letters.take();
                            Thread.sleep(1000 / a);
                            letter[1] = letter[0].toString().hashCode();
                        }
                    } catch (InterruptedException e) {
                        return;
                    }
                });
                clerk.start();
                return number -> {
                    letters.add(new Object[] { new Play(number), new byte[20_000] });
                    return letters.size();
                };
            }
            case "bills": {
                VelocityEngine engine = new VelocityEngine();
                engine.setProperty("resource.loader", "string");
                engine.setProperty("string.resource.loader.class", StringResourceLoader.class.getName());
                engine.setProperty("string.resource.loader.cache", "true");
                engine.setProperty("resource.manager.defaultcache.size", "0");
                engine.setProperty("runtime.log.logsystem.class", "org.apache.velocity.runtime.log.NullLogChute");
                engine.init();
                StringResourceRepository bills = StringResourceLoader.getRepository();
                for (int k = 0; k < a; k++)
                    bills.putStringResource("bill" + k, Stream.generate(() -> "#if($play.number > " + random(9) + ")" + prose(6) + " $play.title #else " + prose(5) + " #end ").limit(40).collect(Collectors.joining()));
                return number -> {
                    StringWriter text = new StringWriter();
                    engine.getTemplate("bill" + regular(number, a)).merge(new VelocityContext(Map.of("play", new Play(number))), text);
                    return text;
                };
            }
            case "plays": {
                Gson gson = new Gson();
                return number -> gson.toJson(Stream.generate(() -> new Play(number)).limit(1 + random(a)).sorted(Comparator.comparing(p -> p.plot)).collect(Collectors.toList())).length();
            }
            case "critics":
                return number -> Jsoup.parse(Stream.generate(() -> "<div class=review><h2>" + prose(3) + "</h2><p>" + new Play(number) + "</p></div>").limit(1 + random(a)).collect(Collectors.joining()))
                    .select("div.review > h2").eachText();
            case "cloakroom": {
                every(2, () -> kept.values().removeIf(coat -> System.nanoTime() - ((Coat) coat).hung > a * 1_000_000_000L));
                return number -> {
                    Coat coat = new Coat();
                    kept.put(count.incrementAndGet(), coat);
                    return coat.of;
                };
            }
            case "wardrobe": {
                XStream stream = new XStream();
                stream.allowTypes(new Class[] { Play.class });
                every(b, () -> ((List<?>) stream.fromXML(stream.toXML(Stream.generate(() -> new Play(1)).limit(a).collect(Collectors.toCollection(ArrayList::new))))).size());
                return Play::new;
            }
            case "prices": {
                JexlEngine engine = new JexlBuilder().cache(a).create();
                return number -> {
                    int n = regular(number, 4 * a);
                    String sum = IntStream.range(0, 30).mapToObj(k -> "(seats * " + (n % 7 + k) + " - off" + (n + k) + ")").collect(Collectors.joining(" + "));
                    MapContext context = new MapContext(new HashMap<>(Map.of("seats", random(5))));
                    IntStream.range(n, n + 30).forEach(k -> context.set("off" + k, k));
                    return engine.createExpression(sum).evaluate(context);
                };
            }
            case "posters": {
                Map<Integer, String> posters = lru(a);
                return number -> posters.computeIfAbsent(regular(number, 3 * a), k -> Stream.generate(() -> new Play(k)).limit(3)
                    .map(play -> "<svg><title>" + play.title + "</title><text>" + String.join("</text><text>", play.cast) + "</text><desc>" + play.plot + "</desc></svg>").collect(Collectors.joining()));
            }
            default: throw new IllegalArgumentException(mode);
        }
    }

    public interface BookingMBean {
        String getTitle();
    }

    public static class Booking implements BookingMBean {
        final Play of;

        Booking(long number) { of = new Play(number); }

        @Override public String getTitle() { return of.title; }
    }

    public static class Reminder implements Job {
        @Override public void execute(JobExecutionContext context) { }
    }

    static void every(int seconds, Callable<?> job) {
        Executors.newScheduledThreadPool(1).scheduleAtFixedRate(() -> {
            try {
                job.call();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }, seconds, seconds, TimeUnit.SECONDS);
    }

    static Answer served;

    @Path("/item/{number}")
    public static class Page {
        @GET @Produces("text/plain") public String get(@PathParam("number") long number) throws Exception { return served.to(number).toString(); }
    }

    public static void main(String[] args) throws Exception {
        int port = Integer.parseInt(System.getenv("PORT"));
        served = answer(args[1], args.length > 2 ? Integer.parseInt(args[2]) : 0, args.length > 3 ? Integer.parseInt(args[3]) : 0);
        if (args[0].equals("jersey")) {
            HttpServerFactory.create("http://127.0.0.1:" + port + "/", new DefaultResourceConfig(Page.class)).start();
            return;
        }
        ServerBootstrap.bootstrap().setListenerPort(port).setLocalAddress(InetAddress.getLoopbackAddress()).registerHandler("/item/*", (request, response, context) -> {
            String path = request.getRequestLine().getUri();
            try {
                response.setEntity(new StringEntity(served.to(Long.parseLong(path.substring(path.lastIndexOf('/') + 1))).toString(), ContentType.TEXT_PLAIN));
            } catch (Exception e) {
                e.printStackTrace();
                response.setStatusCode(500);
            }
        }).create().start();
    }
}
