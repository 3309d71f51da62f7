/*
 * A DPDK program that sleeps until a receive interrupt comes, with a vector for each queue.
 *
 * Port 0 sends, port 1 receives. The sender waits until the receiver sleeps, sends one packet,
 * and waits until the receiver has counted it. So each packet needs an interrupt of its own:
 * a lost interrupt leaves the receiver asleep, and the program says so and fails.
 *
 * Prints the vectors' lines of /proc/interrupts before and after, and one line for each queue:
 * "queue Q packets P wakeups W".
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

enum {
	SENDER,
	RECEIVER,
	PORTS,
	QUEUES = 4,
	PACKETS = 400,
	DESCRIPTORS = 128,
	/* Enough for both directions' rings and the caches. */
	BUFFERS = 4095,
	FRAME = 64,
	/* The longest wait before the program reports a hang, in milliseconds. */
	HANG = 60000,
};

static atomic_uint received;
static atomic_int receiver_tid;
static unsigned int packets[QUEUES];
static unsigned int wakeups[QUEUES];

static void check(int result, const char *what)
{
	if (result < 0)
		rte_exit(EXIT_FAILURE, "%s: %s\n", what, rte_strerror(-result));
}

static void wait_for(int (*done)(unsigned int), unsigned int argument, const char *what)
{
	for (int waited = 0; !done(argument); waited++) {
		if (waited > HANG) {
			fprintf(stderr, "HANG: packet %u: %s\n", argument, what);
			/* The receiver still sleeps in the driver's descriptors: no cleanup. */
			_exit(EXIT_FAILURE);
		}
		usleep(1000);
	}
}

/* Returns true if the receiving thread sleeps. It sleeps in rte_epoll_wait only. */
static int receiver_sleeps(unsigned int unused)
{
	char path[64], line[512], *state;
	FILE *file;

	(void)unused;
	if (!receiver_tid)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", receiver_tid);
	file = fopen(path, "r");
	if (!file || !fgets(line, sizeof(line), file))
		rte_exit(EXIT_FAILURE, "cannot read %s\n", path);
	fclose(file);
	state = strrchr(line, ')');
	return state && state[1] && state[2] == 'S';
}

static int is_received(unsigned int count)
{
	return received >= count;
}

static int links_are_up(unsigned int unused)
{
	(void)unused;
	for (int port = 0; port < PORTS; port++) {
		struct rte_eth_link link;

		check(rte_eth_link_get_nowait(port, &link), "rte_eth_link_get_nowait");
		if (!link.link_status)
			return 0;
	}
	return 1;
}

static unsigned int drain(unsigned int queue)
{
	struct rte_mbuf *burst[32];
	unsigned int count, all = 0;

	while ((count = rte_eth_rx_burst(RECEIVER, queue, burst, RTE_DIM(burst)))) {
		for (unsigned int i = 0; i < count; i++) {
			/* Other hosts on the network may send, too (IPv6 neighbour discovery). */
			struct rte_ether_hdr *head = rte_pktmbuf_mtod(burst[i], struct rte_ether_hdr *);

			all += head->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
			rte_pktmbuf_free(burst[i]);
		}
	}
	return all;
}

static int receive(void *unused)
{
	(void)unused;
	for (uintptr_t queue = 0; queue < QUEUES; queue++) {
		check(rte_eth_dev_rx_intr_ctl_q(RECEIVER, queue, RTE_EPOLL_PER_THREAD,
						RTE_INTR_EVENT_ADD, (void *)queue),
		      "rte_eth_dev_rx_intr_ctl_q");
		check(rte_eth_dev_rx_intr_enable(RECEIVER, queue), "rte_eth_dev_rx_intr_enable");
	}
	receiver_tid = rte_gettid();
	while (received < PACKETS) {
		struct rte_epoll_event events[QUEUES];
		int count = rte_epoll_wait(RTE_EPOLL_PER_THREAD, events, QUEUES, -1);

		check(count, "rte_epoll_wait");
		for (int i = 0; i < count; i++) {
			uintptr_t queue = (uintptr_t)events[i].epdata.data;
			unsigned int came;

			check(rte_eth_dev_rx_intr_disable(RECEIVER, queue),
			      "rte_eth_dev_rx_intr_disable");
			came = drain(queue);
			check(rte_eth_dev_rx_intr_enable(RECEIVER, queue),
			      "rte_eth_dev_rx_intr_enable");
			/* A packet between the last look and the enabling raises no interrupt. */
			came += drain(queue);
			packets[queue] += came;
			wakeups[queue] += came > 0;
			received += came;
		}
	}
	return 0;
}

static void send_packet(struct rte_mempool *pool, const struct rte_ether_addr *to,
			unsigned int number)
{
	struct rte_mbuf *packet = rte_pktmbuf_alloc(pool);
	struct rte_ether_hdr *ether = NULL;
	struct rte_ipv4_hdr *ip;

	if (packet)
		ether = (struct rte_ether_hdr *)rte_pktmbuf_append(packet, FRAME);
	if (!ether)
		rte_exit(EXIT_FAILURE, "no buffer for packet %u\n", number);
	memset(ether, 0, FRAME);
	rte_ether_addr_copy(to, &ether->dst_addr);
	check(rte_eth_macaddr_get(SENDER, &ether->src_addr), "rte_eth_macaddr_get");
	ether->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	ip = (struct rte_ipv4_hdr *)(ether + 1);
	ip->version_ihl = RTE_IPV4_VHL_DEF;
	ip->total_length = rte_cpu_to_be_16(FRAME - sizeof(*ether));
	ip->time_to_live = 64;
	/* No protocol with ports: RSS hashes the addresses, and the source picks the queue. */
	ip->next_proto_id = 253;
	ip->src_addr = rte_cpu_to_be_32(RTE_IPV4(10, 0, number >> 8, number & 0xff));
	ip->dst_addr = rte_cpu_to_be_32(RTE_IPV4(10, 1, 0, 1));
	ip->hdr_checksum = rte_ipv4_cksum(ip);
	while (!rte_eth_tx_burst(SENDER, 0, &packet, 1))
		usleep(1000);
}

static void start(uint16_t port, uint16_t rx_queues, struct rte_mempool *pool)
{
	struct rte_eth_conf conf = { 0 };
	struct rte_eth_dev_info info;

	check(rte_eth_dev_info_get(port, &info), "rte_eth_dev_info_get");
	if (port == RECEIVER) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = RTE_ETH_RSS_IPV4 & info.flow_type_rss_offloads;
		conf.intr_conf.rxq = 1;
	}
	check(rte_eth_dev_configure(port, rx_queues, 1, &conf), "rte_eth_dev_configure");
	for (uint16_t queue = 0; queue < rx_queues; queue++)
		check(rte_eth_rx_queue_setup(port, queue, DESCRIPTORS, SOCKET_ID_ANY, NULL, pool),
		      "rte_eth_rx_queue_setup");
	check(rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL),
	      "rte_eth_tx_queue_setup");
	check(rte_eth_dev_start(port), "rte_eth_dev_start");
}

static void show_interrupts(const char *when)
{
	char line[1024];
	FILE *file = fopen("/proc/interrupts", "r");

	while (file && fgets(line, sizeof(line), file))
		if (strstr(line, "vfio-msix"))
			printf("%s %s", when, line);
	if (file)
		fclose(file);
}

int main(int argc, char **argv)
{
	struct rte_ether_addr receiver;
	struct rte_mempool *pool;

	check(rte_eal_init(argc, argv), "rte_eal_init");
	if (rte_eth_dev_count_avail() != PORTS)
		rte_exit(EXIT_FAILURE, "DPDK sees %u ports, not %d\n", rte_eth_dev_count_avail(), PORTS);
	pool = rte_pktmbuf_pool_create("packets", BUFFERS, 32, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
				       SOCKET_ID_ANY);
	if (!pool)
		rte_exit(EXIT_FAILURE, "no pool of packets: %s\n", rte_strerror(rte_errno));
	start(SENDER, 1, pool);
	start(RECEIVER, QUEUES, pool);
	check(rte_eth_macaddr_get(RECEIVER, &receiver), "rte_eth_macaddr_get");
	wait_for(links_are_up, 0, "the links do not come up");
	show_interrupts("before");
	rte_eal_remote_launch(receive, NULL, rte_get_next_lcore(-1, 1, 0));
	for (unsigned int number = 1; number <= PACKETS; number++) {
		wait_for(receiver_sleeps, number, "the receiver does not go to sleep");
		send_packet(pool, &receiver, number);
		wait_for(is_received, number, "no receive interrupt came for it");
	}
	rte_eal_mp_wait_lcore();
	show_interrupts("after");
	for (int queue = 0; queue < QUEUES; queue++)
		printf("queue %d packets %u wakeups %u\n", queue, packets[queue], wakeups[queue]);
	fflush(stdout);
	for (int port = 0; port < PORTS; port++) {
		check(rte_eth_dev_stop(port), "rte_eth_dev_stop");
		check(rte_eth_dev_close(port), "rte_eth_dev_close");
	}
	return rte_eal_cleanup();
}
