import freemarker.cache.StringTemplateLoader;
import freemarker.template.Configuration;
import freemarker.template.Template;
import java.io.*;
import java.lang.ref.SoftReference;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;
import net.sf.ehcache.*;
import org.apache.commons.pool2.*;
import org.apache.commons.pool2.impl.*;
import org.simpleframework.http.Request;
import org.simpleframework.http.Response;
import org.simpleframework.http.core.Container;
import org.simpleframework.transport.connect.SocketConnection;

/** Library MODE [A] [B]: what a library keeps, under Simple. Leaks:
 *   loans      hsqldb in memory; returned loans are marked, not deleted
 *   letters    freemarker; each reminder is a template of its own name
 *   readers    commons-pool2; catalogue readers are not given back when nothing was found
 *   clerks     a pool of one thread for each A-th request, not shut down
 *   holds      a future for each hold, done when the book is back; those of lost books never are
 * Healthy:
 *   ehcache    A books; the least asked for go
 *   desk       hsqldb; loans of the last A seconds
 *   pages      freemarker; A templates, compiled when first asked for
 *   scanners   commons-pool2; at most A scanners of a MiB each
 *   inventory  every B seconds an inventory of A books
 *   covers     softly held covers of A books */
public class Library {
    static final String[] WORDS = "book shelf reader page late due return quiet desk card story map volume old new index lamp".split(" ");

    static int random(int n) { return ThreadLocalRandom.current().nextInt(n); }

    static String prose(int n) {
        return IntStream.range(0, n).mapToObj(k -> WORDS[random(WORDS.length)]).collect(Collectors.joining(" "));
    }

    public static class Book {
        final long number;
        final String title = prose(4), blurb = prose(40 + random(160));
        final List<String> notes = Stream.generate(() -> prose(12)).limit(random(25)).collect(Collectors.toList());

        Book(long number) { this.number = number; }

        public long getNumber() { return number; }
        public String getTitle() { return title; }
        public List<String> getNotes() { return notes; }

        @Override public String toString() { return number + "\n" + title + "\n" + blurb + "\n" + String.join("\n", notes); }
    }

    interface Answer { Object to(long number) throws Exception; }

    static void serve(Answer answer) throws Exception {
        new SocketConnection(new Container() {
            @Override public void handle(Request request, Response response) {
                try {
                    String path = request.getPath().getPath();
                    byte[] text = answer.to(Long.parseLong(path.substring(path.lastIndexOf('/') + 1))).toString().getBytes(StandardCharsets.UTF_8);
                    response.set("Content-Type", "text/plain");
                    response.setContentLength(text.length);
                    response.getOutputStream().write(text);
                    response.close();
                } catch (Exception e) {
                    e.printStackTrace();
                }
            }
        }).connect(new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))));
    }

    /** Some come often. */
    static int regular(long number, int people) { return (int) (people * Math.pow(number / 1e9, 3)); }

    static Connection database() throws SQLException {
        Connection database = DriverManager.getConnection("jdbc:hsqldb:mem:library", "SA", "");
        database.createStatement().execute("create table loan (id identity, lent bigint, reader int, back boolean, text longvarchar)");
        database.createStatement().execute("create index by_time on loan (lent)");
        return database;
    }

    static void lend(Connection database, Book book) throws SQLException {
        try (PreparedStatement insert = database.prepareStatement("insert into loan (lent, reader, back, text) values (?, ?, false, ?)")) {
            insert.setLong(1, System.currentTimeMillis());
            insert.setInt(2, regular(book.number, 9000));
            insert.setString(3, book.toString());
            insert.execute();
        }
    }

    static void loans() throws Exception {
        Connection database = database();
        serve(number -> {
            Book book = new Book(number);
            synchronized (database) {
                lend(database, book);
                try (PreparedStatement update = database.prepareStatement("update loan set back = true where lent between ? and ?")) {
                    update.setLong(1, System.currentTimeMillis() - 12000);
                    update.setLong(2, System.currentTimeMillis() - 10000);
                    update.execute();
                }
            }
            return book;
        });
    }

    static void desk(int seconds) throws Exception {
        Connection database = database();
        serve(number -> {
            Book book = new Book(number);
            synchronized (database) {
                lend(database, book);
                if (number % 30 == 0) database.createStatement().execute("delete from loan where lent < " + (System.currentTimeMillis() - seconds * 1000L));
            }
            return book;
        });
    }

    static Configuration freemarker(StringTemplateLoader loader) {
        Configuration configuration = new Configuration(Configuration.VERSION_2_3_23);
        configuration.setTemplateLoader(loader);
        return configuration;
    }

    static String write(Template template, Book book) throws Exception {
        StringWriter out = new StringWriter();
        template.process(Map.of("book", book), out);
        return out.toString();
    }

    static void letters() throws Exception {
        StringTemplateLoader loader = new StringTemplateLoader();
        Configuration configuration = freemarker(loader);
        serve(number -> {
            String name = "reminder-" + UUID.randomUUID();
            loader.putTemplate(name, "Dear reader,\n" + prose(150) + "\n<#if book.number gt 9>${book.title}</#if>\n<#list book.notes as note>- ${note}\n</#list>");
            return write(configuration.getTemplate(name), new Book(number));
        });
    }

    static void pages(int count) throws Exception {
        StringTemplateLoader loader = new StringTemplateLoader();
        for (int k = 0; k < count; k++) {
            loader.putTemplate("page-" + k, IntStream.range(0, 40).mapToObj(n -> "<p><#if book.number % 2 == 0>" + prose(9) + " ${book.title?upper_case}<#else>" + prose(9)
                + " ${book.number?c}</#if><#list book.notes as note>${note?cap_first}</#list>").collect(Collectors.joining("\n")));
        }
        Configuration configuration = freemarker(loader);
        serve(number -> write(configuration.getTemplate("page-" + regular(number, count)), new Book(number)));
    }

    static class Reader {
        final List<Book> near = Stream.generate(() -> new Book(random(1000))).limit(3).collect(Collectors.toList());
    }

    static void readers() throws Exception {
        var pool = new GenericObjectPool<Reader>(new BasePooledObjectFactory<>() {
            @Override public Reader create() { return new Reader(); }
            @Override public PooledObject<Reader> wrap(Reader reader) { return new DefaultPooledObject<>(reader); }
        });
        pool.setMaxTotal(-1);
        serve(number -> {
            Reader reader = pool.borrowObject();
            if (number % 3 == 0) return "nothing found";
            Book found = reader.near.get(random(3));
            pool.returnObject(reader);
            return found;
        });
    }

    static void scanners(int most) throws Exception {
        var pool = new GenericObjectPool<byte[]>(new BasePooledObjectFactory<>() {
            @Override public byte[] create() { return new byte[1 << 20]; }
            @Override public PooledObject<byte[]> wrap(byte[] scanner) { return new DefaultPooledObject<>(scanner); }
        });
        pool.setMaxTotal(most);
        pool.setMinEvictableIdleTimeMillis(20000);
        pool.setTimeBetweenEvictionRunsMillis(5000);
        var later = Executors.newScheduledThreadPool(1);
        serve(number -> {
            byte[] scanner = pool.borrowObject();
            byte[] text = new Book(number).toString().getBytes(StandardCharsets.UTF_8);
            for (int at = 0; at + text.length < scanner.length; at += text.length) System.arraycopy(text, 0, scanner, at, text.length);
            later.schedule(() -> pool.returnObject(scanner), 200 + random(500), TimeUnit.MILLISECONDS); // once the page is turned
            return text.length;
        });
    }

    static void clerks(int each) throws Exception {
        serve(number -> {
            Book book = new Book(number);
            if (number % each != 0) return book;
            List<Book> series = Stream.generate(() -> new Book(number)).limit(20).collect(Collectors.toList());
            return Executors.newFixedThreadPool(1).submit(() -> series.get(0).title + series.size()).get();
        });
    }

    static void holds() throws Exception {
        Map<Integer, CompletableFuture<Book>> back = new ConcurrentHashMap<>();
        serve(number -> {
            int book = (int) (number % 1000);
            Book wanted = new Book(number);
            back.computeIfAbsent(book, key -> new CompletableFuture<>()).thenAccept(found -> System.out.println(wanted.title + found));
            int returned = random(1000);
            if (returned % 3 != 0) { // the others are lost
                CompletableFuture<Book> done = back.remove(returned);
                if (done != null) done.complete(new Book(returned));
            }
            return wanted;
        });
    }

    static void ehcache(int books) throws Exception {
        Cache cache = new Cache("books", books, false, true, 0, 0);
        CacheManager.create(new ByteArrayInputStream("<ehcache updateCheck='false'><defaultCache maxElementsInMemory='1' eternal='true' overflowToDisk='false'/></ehcache>".getBytes()))
            .addCache(cache);
        serve(number -> {
            int key = regular(number, books * 3);
            Element known = cache.get(key);
            if (known == null) cache.put(known = new Element(key, List.of(new Book(key), new Book(key), new Book(key))));
            return ((List<?>) known.getObjectValue()).get(0);
        });
    }

    static volatile List<Book> rare = List.of();

    static void inventory(int books, int seconds) throws Exception {
        Executors.newScheduledThreadPool(1).scheduleAtFixedRate(() -> {
            Map<String, List<Book>> byTitle = LongStream.range(0, books).mapToObj(Book::new).collect(Collectors.groupingBy(book -> book.title));
            rare = byTitle.values().stream().filter(list -> list.size() == 1).map(list -> list.get(0)).limit(50).collect(Collectors.toList());
        }, seconds, seconds, TimeUnit.SECONDS);
        serve(number -> rare.isEmpty() ? new Book(number) : rare.get(random(rare.size())));
    }

    static void covers(int books) throws Exception {
        Map<Integer, SoftReference<byte[]>> covers = new ConcurrentHashMap<>();
        serve(number -> {
            int key = (int) (number % books);
            SoftReference<byte[]> known = covers.get(key);
            byte[] cover = known == null ? null : known.get();
            if (cover == null) covers.put(key, new SoftReference<>(cover = Arrays.copyOf(new Book(key).toString().getBytes(), 30000)));
            return new String(cover, 0, 500, StandardCharsets.UTF_8);
        });
    }

    public static void main(String[] args) throws Exception {
        int a = args.length > 1 ? Integer.parseInt(args[1]) : 0, b = args.length > 2 ? Integer.parseInt(args[2]) : 0;
        switch (args[0]) {
            case "loans" -> loans();
            case "letters" -> letters();
            case "readers" -> readers();
            case "clerks" -> clerks(a);
            case "holds" -> holds();
            case "ehcache" -> ehcache(a);
            case "desk" -> desk(a);
            case "pages" -> pages(a);
            case "scanners" -> scanners(a);
            case "inventory" -> inventory(a, b);
            case "covers" -> covers(a);
        }
    }
}
