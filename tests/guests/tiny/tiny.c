/*
 * A guest for fast tests: it says how it was called and ends the way it is told.
 *
 * It is a PVH kernel (an ELF file with Xen's note 18) that runs in 32-bit protected mode without paging, interrupts
 * or SSE: what every monitor boots, and all that a KVM which only emulates instructions can run. It is linked as
 * ELF64 because Firecracker and Cloud Hypervisor load nothing else.
 *
 * The first line on the serial port (0x3f8) is
 *     tiny: THE WHOLE COMMAND LINE
 * Then the words of the command line act from left to right: those behind " -- " if it is there, else all.
 * Quotes around a word are ignored, so are words that are not in this list:
 *
 *     exit=N    end with status N: N to isa-debug-exit at 0xf4, by which QEMU exits with (N << 1) | 1
 *     last      "tiny: last words" without a newline, then like exit=0
 *     hang      halt with interrupts off, for ever
 *     spin      a busy loop, for ever
 *     triple    a triple fault: a reset, which ends a monitor that does not reboot
 *     reset     a reset as PCs do it (0xcf9), which ends it too; a microvm has none
 *     fill      write to every page of RAM, say "tiny: filled N MiB (of RAM up to M MiB)", go on
 *     out=N     N bytes of checkable lines (see out()), go on
 *     echo      "tiny: echo", then each line of serial input comes back; the line "quit" goes on
 *     sleep=MS  wait so many milliseconds of the guest's time (the PIT), go on
 *     say=TEXT  a line with TEXT, go on
 *
 * After the last word: like exit=0. Where there is no isa-debug-exit the guest says so and triple-faults.
 */

/* gcc -m32 makes the code, the assembler puts it into an ELF64 object (-Wa,--64). */
__asm__(".code32");

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* The boot protocol: Xen's hvm_start_info, in which all addresses are physical. */
struct start_info {
	u32 magic, version, flags, modules;
	u64 module_list, command_line, rsdp;
	u64 memory_map; /* since version 1 */
	u32 memory_entries, reserved;
};
struct memory_entry {
	u64 address, size;
	u32 type, reserved;
};
enum { MAGIC = 0x336ec578, RAM = 1 };

/* The note, the entry point and the stack. */
__asm__(".pushsection .note.pvh, \"a\", @note\n"
	".align 4\n"
	".long 4, 4, 18\n" /* sizes of name and value, XEN_ELFNOTE_PHYS32_ENTRY */
	".asciz \"Xen\"\n"
	".long entry\n"
	".popsection\n"
	".pushsection .text.entry, \"ax\"\n"
	".global entry\n"
	"entry:\n"
	"	cld\n"
	"	movl $stack_top, %esp\n"
	"	pushl %ebx\n" /* the boot information */
	"	call run\n"
	".popsection\n"
	".pushsection .bss\n"
	".align 16\n"
	".skip 8192\n"
	"stack_top:\n"
	".popsection\n");

static inline void outb(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void outl(u16 port, u32 value) { __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 inb(u16 port)
{
	u8 value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

/* ---- the serial port, a 16550A or less ---- */

enum { THR = 0x3f8, FCR = 0x3fa, IIR = 0x3fa, LCR = 0x3fb, LSR = 0x3fd };
static u32 fifo = 1; /* bytes that it takes at once when it is empty */

static void serial_init(void)
{
	outb(LCR, 3); /* 8n1 */
	outb(FCR, 1); /* the FIFO on; QEMU drops a byte that came before, as for any guest that does this */
	if ((inb(IIR) & 0xc0) == 0xc0)
		fifo = 16;
}

static void put(const char *bytes, u32 length)
{
	while (length) {
		u32 n = length < fifo ? length : fifo;
		length -= n;
		while (!(inb(LSR) & 0x20))
			;
		__asm__ volatile("rep outsb" : "+S"(bytes), "+c"(n) : "d"((u16)THR) : "memory");
	}
}

static u32 length_of(const char *text)
{
	u32 n = 0;
	while (text[n])
		n++;
	return n;
}

static void say(const char *text) { put(text, length_of(text)); }

static void say_number(u32 value)
{
	char digits[10], *p = digits + sizeof digits;
	do
		*--p = '0' + value % 10;
	while (value /= 10);
	put(p, digits + sizeof digits - p);
}

/* ---- what it can be told ---- */

static __attribute__((noreturn)) void halt(void)
{
	for (;;)
		__asm__ volatile("cli; hlt");
}

static __attribute__((noreturn)) void triple_fault(void)
{
	static const struct { u16 limit; u32 base; } __attribute__((packed)) nothing;
	/* ud2, not int3: a KVM that emulates instructions does not know int3. */
	__asm__ volatile("lidt %0; ud2" : : "m"(nothing));
	halt();
}

static __attribute__((noreturn)) void reset(void)
{
	outb(0xcf9, 2);
	outb(0xcf9, 6);
	halt();
}

static __attribute__((noreturn)) void quit(u32 status)
{
	while ((inb(LSR) & 0x60) != 0x60) /* until everything is out */
		;
	outl(0xf4, status);
	say("tiny: there is no isa-debug-exit at 0xf4\n");
	triple_fault();
}

/* RAM above 4 GiB is seen through a window, the last 4 MiB of the address space (PSE-36); all else is where it is. Only
 * there paging is needed, which a KVM that emulates instructions lacks. */
enum { WINDOW = 0xffc00000, LARGE = 0x83 /* present, writable, 4 MiB */ };
static u32 directory[1024] __attribute__((aligned(4096)));

static void paging(u32 on)
{
	u32 cr;
	for (u32 i = 0; i < 1024; i++)
		directory[i] = i << 22 | LARGE;
	__asm__ volatile("movl %0, %%cr3" : : "r"(directory));
	__asm__ volatile("movl %%cr4, %0; orl $0x10, %0; movl %0, %%cr4" : "=r"(cr));
	__asm__ volatile("movl %%cr0, %0" : "=r"(cr));
	__asm__ volatile("movl %0, %%cr0" : : "r"(on ? cr | 0x80000000 : cr & 0x7fffffff) : "memory");
}

static volatile u32 *word_of(u32 page)
{
	static u32 shown;
	u32 entry = (page << 12 & 0xffc00000) | (page >> 20) << 13 | LARGE;
	if (page >> 20 == 0)
		return (volatile u32 *)(page << 12);
	if (!shown)
		paging(1);
	if (shown != entry) {
		directory[1023] = shown = entry;
		__asm__ volatile("movl %0, %%cr3" : : "r"(directory) : "memory");
	}
	return (volatile u32 *)(WINDOW | (page & 1023) << 12);
}

/* Writes to each page what is there already, so nothing is broken and the host must provide all of it. */
static void fill(const struct start_info *info)
{
	u32 pages = 0, top = 0;
	if (info->version < 1 || !info->memory_entries) {
		say("tiny: there is no memory map, nothing is filled\n");
		return;
	}
	const struct memory_entry *map = (const void *)(u32)info->memory_map;
	for (u32 i = 0; i < info->memory_entries; i++) {
		u32 last = (map[i].address + map[i].size) >> 12;
		if (map[i].type != RAM)
			continue;
		for (u32 page = (map[i].address + 4095) >> 12; page < last; page++, pages++) {
			volatile u32 *word = word_of(page);
			*word = *word;
		}
		if (last > top)
			top = last;
	}
	if (top >> 20)
		paging(0);
	say("tiny: filled ");
	say_number((pages + 255) >> 8);
	say(" MiB (of RAM up to ");
	say_number((top + 255) >> 8);
	say(" MiB)\n");
}

/* Line i, from 0, is 64 bytes: i in 8 hexadecimal digits, a space, the alphabet from letter i % 26 on, again and
 * again to column 63, a newline. The last line is cut where the bytes end. */
static void out(u32 bytes)
{
	for (u32 i = 0; bytes; i++) {
		char line[64];
		for (u32 k = 0; k < 8; k++)
			line[k] = "0123456789abcdef"[i >> (28 - 4 * k) & 15];
		line[8] = ' ';
		char letter = 'a' + i % 26;
		for (u32 k = 9; k < 63; k++) {
			line[k] = letter;
			letter = letter == 'z' ? 'a' : letter + 1;
		}
		line[63] = '\n';
		u32 n = bytes < 64 ? bytes : 64;
		put(line, n);
		bytes -= n;
	}
}

static void echo(void)
{
	char line[256];
	u32 n = 0;
	/* Up to 14 bytes at once: a monitor that hands over each by itself takes long. */
	outb(FCR, 0xc1);
	say("tiny: echo\n");
	for (;;) {
		/* Between two looks a monitor in software needs time of its own to hand over the next ones. */
		while (!(inb(LSR) & 1))
			for (u32 i = 0; i < 3000; i++)
				__asm__ volatile("");
		char c = inb(THR);
		line[n++] = c;
		if (c != '\n' && c != '\r' && n < sizeof line)
			continue;
		if (n == 5 && line[0] == 'q' && line[1] == 'u' && line[2] == 'i' && line[3] == 't')
			return;
		put(line, n);
		n = 0;
	}
}

/* Counts the ticks of the PIT's channel 0, which runs down through 16 bits at 1.193182 MHz. */
static void sleep(u32 milliseconds)
{
	enum { COUNTER0 = 0x40, MODE = 0x43 };
	u32 idle = 0;
	outb(MODE, 0x34); /* channel 0, both bytes, mode 2 */
	outb(COUNTER0, 0);
	outb(COUNTER0, 0);
	u16 before = 0;
	for (u32 ticks = 0; milliseconds;) {
		outb(MODE, 0); /* latch channel 0 */
		u16 now = inb(COUNTER0);
		now |= inb(COUNTER0) << 8;
		if (now == before && ++idle > 1000000) {
			say("tiny: there is no PIT, sleeping is over\n");
			return;
		}
		if (now != before)
			idle = 0;
		for (ticks += (u16)(before - now); ticks >= 1193 && milliseconds; ticks -= 1193)
			milliseconds--;
		before = now;
	}
}

/* ---- the command line ---- */

/* Whether the word at `word` starts with `name`; what follows is then at *rest. */
static int starts(const char *word, const char *end, const char *name, const char **rest)
{
	while (*name && word < end && *word == *name)
		word++, name++;
	*rest = word;
	return !*name;
}

static u32 number(const char *digit, const char *end)
{
	u32 value = 0;
	for (; digit < end && *digit >= '0' && *digit <= '9'; digit++)
		value = value * 10 + (*digit - '0');
	return value;
}

static void act(const struct start_info *info, const char *word, const char *end)
{
	const char *rest;
	if (starts(word, end, "exit=", &rest))
		quit(number(rest, end));
	else if (starts(word, end, "out=", &rest))
		out(number(rest, end));
	else if (starts(word, end, "sleep=", &rest))
		sleep(number(rest, end));
	else if (starts(word, end, "say=", &rest)) {
		put(rest, end - rest);
		say("\n");
	} else if (starts(word, end, "hang", &rest) && rest == end)
		halt();
	else if (starts(word, end, "spin", &rest) && rest == end)
		for (;;)
			__asm__ volatile("");
	else if (starts(word, end, "triple", &rest) && rest == end)
		triple_fault();
	else if (starts(word, end, "reset", &rest) && rest == end)
		reset();
	else if (starts(word, end, "fill", &rest) && rest == end)
		fill(info);
	else if (starts(word, end, "echo", &rest) && rest == end)
		echo();
	else if (starts(word, end, "last", &rest) && rest == end) {
		say("tiny: last words");
		quit(0);
	}
}

static int is_edge(char c) { return c == ' ' || c == '"' || c == '\''; }

__attribute__((noreturn, used)) void run(const struct start_info *info)
{
	const char *line = "";
	if (info->magic == MAGIC && info->command_line)
		line = (const char *)(u32)info->command_line;

	serial_init();
	say("tiny: ");
	say(line);
	say("\n");

	for (const char *p = line; *p; p++)
		if (p[0] == ' ' && p[1] == '-' && p[2] == '-' && (p[3] == ' ' || !p[3])) {
			line = p + 3;
			break;
		}
	for (;;) {
		while (*line && is_edge(*line))
			line++;
		if (!*line)
			quit(0);
		const char *end = line;
		while (*end && !is_edge(*end))
			end++;
		act(info, line, end);
		line = end;
	}
}
